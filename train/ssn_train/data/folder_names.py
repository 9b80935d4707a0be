"""What folders are called: good, bad, masks, or the name of a kind of defect."""

from __future__ import annotations

import re
import unicodedata
from typing import FrozenSet, List, Sequence

GOOD = frozenset(
    "good ok okay normal normals pass passed fine gut io gutteil gutteile 良品 合格 合格品 正常 正常品 良好 "
    "ok品 fehlerfrei inordnung ohnefehler "
    "healthy clean intact golden perfect sound conforming negative undamaged flawless".split()
)
BAD = frozenset(
    "bad defect defects defective defekt ng anomaly anomalies anomalous abnormal nok nio notok notgood "
    "nogood faulty fault faults reject rejects rejected scrap fail failed failure schlecht "
    "ausschuss schlechtteil schlechtteile positive nonconforming imperfect 不良 不良品 不合格 缺陷 异常 異常 "
    "异常品 ng品".split()
)
NEGATIONS = frozenset("not no non without free zero kein keine nicht un".split())
JOINED_GOOD = frozenset("nodefect nodefects defectfree nondefective undefective faultless".split())
MASKS = frozenset(
    "mask masks maske masken gt gts groundtruth segmentationclass segmentationobject segmentationclasspng "
    "segmentationobjectpng pngmask pngmasks maskpng annots".split()
)
LABELS = frozenset(
    "label labels annotation annotations anno annos ann seg segm segmentation segmentations truth".split()
)
"""Words for masks too, but labels are also things that can be damaged."""

TRAIN = frozenset("train training".split())
VALIDATION = frozenset("val valid validation".split())
HARMLESS = frozenset(
    "image images photo photos picture pictures img imgs part parts piece pieces sample samples data set "
    "product products line cam camera batch lot side top bottom left right front back v new day shift date"
    .split()
) | TRAIN | VALIDATION | {"test", "testing"}
"""Words that may stand beside good without changing it."""

NEUTRAL = HARMLESS | frozenset(
    "unlabelled unlabeled unlabel unknown unsorted raw old backup backups tmp temp misc other others archive "
    "result results output outputs out run runs model models reference references preview previews thumb "
    "thumbs thumbnail thumbnails trash todo review src doc docs export exports calibration calib background "
    "bg copy copies unclear maybe mixed all private overkill "
    "segmentationclassnpy json".split()
)
"""Folders that nobody would name a kind of defect after."""


OVERLAYS = frozenset(
    "visualization visualisation viz vis overlay overlays segmentationclassvisualization".split()
)
"""Folders of pictures that show labels to people."""

UNSURE_IN_FILES = {"positive", "negative", "scrap"}
"""Words of products too, where a file is called so: a positive electrode, a scrap line."""


def shows_labels(name: str) -> bool:
    """For pictures with labels drawn on them."""
    return bool(set(words(name)) & OVERLAYS)


def meaning_of_file(stem: str) -> str:
    """:func:`meaning` of a file's name, without words that products are called by."""
    return meaning(" ".join(word for word in words(stem) if word not in UNSURE_IN_FILES))


def words(name: str) -> List[str]:
    """A name's words in lower case, without numbers: ``NotGood_2024`` has two."""
    plain = unicodedata.normalize("NFKC", name)  # full-width letters are letters
    return [word.lower() for word in re.findall(r"[^\W\d_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", plain))]


def is_mask_folder(name: str) -> bool:
    """For masks of defects: ``masks``, ``ground_truth``, ``crack_mask``, ``labels``; not ``label_damage``."""
    found = set(words(name))
    if found & MASKS or "".join(words(name)) in MASKS:
        return True
    plain = LABELS | HARMLESS | GOOD | BAD | {"ground", "class", "pixel", "png"}
    return bool(found & LABELS) and not found - plain


def meaning(name: str) -> str:
    """"good", "bad", "masks", or "" for a name that says none of these, or two.

    >>> [meaning(name) for name in ("OK", "not-good", "defect_free", "good_2024", "good_crack", "scratch")]
    ['good', 'bad', 'good', 'good', '', '']
    """
    if is_mask_folder(name):
        return "masks"
    found = set(words(name))
    joined = "".join(words(name))
    if joined in JOINED_GOOD | GOOD:
        return "good"
    if joined in BAD:
        return "bad"
    good, bad, negated = bool(found & GOOD), bool(found & BAD), bool(found & NEGATIONS)
    if good and bad:
        return ""
    rest = found - GOOD - BAD - NEGATIONS
    if bad:
        return "bad" if not negated else "" if rest - HARMLESS else "good"
    if good:
        return "bad" if negated else "" if rest - HARMLESS else "good"
    return ""


def says_good(name: str) -> bool:
    """A good word and no negation, whatever else: ``good_masks``."""
    found = set(words(name))
    return bool(found & GOOD) and not found & (NEGATIONS | BAD)


WRAPPERS = frozenset("image images photo photos picture pictures img imgs data dataset".split())


def is_wrapper(name: str) -> bool:
    """A folder that only holds the others: ``images/good/``."""
    return bool(words(name)) and not set(words(name)) - WRAPPERS


def says_nothing(name: str) -> bool:
    """Numbers, single letters, words like line and camera: ``2024-03``, ``S0001``, ``cam_2``."""
    return not {word for word in words(name) if len(word) > 1 or not word.isascii()} - HARMLESS


def is_part(name: str, part: FrozenSet[str]) -> bool:
    """``train``, ``Training_set``: a word of ``part`` and nothing else that means something."""
    found = set(words(name))
    return bool(found & part) and not found - part - HARMLESS


def is_test(name: str) -> bool:
    """``test``, ``testing``, ``test_public``; not ``test_private``, which has no labels."""
    found = set(words(name))
    return bool(found & {"test", "testing"}) and not found - HARMLESS - {"public"}


def names_a_kind(name: str) -> bool:
    """May a folder of that name, beside good ones, be a kind of defect? Not without letters, not a neutral
    word, not what could as well be good, as ``no_scratch``."""
    found = set(words(name))
    return bool(found - NEUTRAL) and not found & (GOOD | NEGATIONS | OVERLAYS)


def kind_of(parts: Sequence[str]) -> str:
    """The kind of defect that a folder's way from the root names: its last word that is not just "bad", and
    has letters.

    >>> kind_of(("bad", "2024", "crack")), kind_of(("NG",))
    ('crack', 'NG')
    """
    lettered = [part for part in parts if set(words(part)) - HARMLESS]
    named = [part for part in lettered if set(words(part)) - BAD - GOOD - NEGATIONS - NEUTRAL]
    return (named or lettered or list(parts))[-1]
