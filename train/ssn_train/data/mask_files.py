"""Which mask belongs to which photo: by folders and names as tools and people give them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple, Union

import numpy as np

from ssn_edge.errors import InputError
from ssn_edge.frames.formats import image_suffixes
from ssn_edge.frames.image_files import read_picture
from ssn_edge.frames.masks import FEW
from ssn_edge.inventory import Reason
from ssn_train.data.folder_names import is_mask_folder, meaning

AFFIX = re.compile(
    r"^(?:(?P<front>mask|gt|label)[-_. ]+(?P<behind>.+)|(?P<before>.+?)[-_. ]+"
    r"(?P<word>mask|masks|gt|label|labels|seg|segmentation|ground[-_ ]?truth|annotation|anno|defect|defects)"
    r"(?P<number>[-_. ]?\d+)?)$", re.IGNORECASE,
)
"""``NAME_mask``, ``NAME-GT``, ``mask_NAME``."""

SURE = re.compile(r"masks?|gt|ground[-_ ]?truth", re.IGNORECASE)
"""Affixes of masks alone. ``bottle_label.jpg`` beside ``bottle.jpg`` may show a bottle's label."""

TWO_VALUED, NEAR = 0.95, 0.1
"""Of a mask's pixels, so many are near black or near its brightest, by so much of that. A photo has greys."""

NO_PHOTO = Reason("mask files that belong to no photo", alarming=True)
SEVERAL = Reason("mask files that fit several photos, so none", alarming=True)
RIVALS = Reason("mask files of photos that have another one, so none is used", alarming=True)


def without_affix(stem: str) -> Optional[str]:
    """The photo's stem in a mask's, or None.

    >>> [without_affix(stem) for stem in ("000_mask", "IMG 1-GT", "label_7", "000", "crack_map")]
    ['000', 'IMG 1', '7', None, None]
    """
    found = AFFIX.match(stem)
    return (found["behind"] or found["before"]) if found else None


def keys(path: Path) -> List[str]:
    """Stems of the photos that a mask may belong to, the likeliest first, case folded."""
    stem = path.stem
    if Path(stem).suffix.lower() in image_suffixes():  # NAME.jpg.png
        stem = Path(stem).stem
    bare = without_affix(stem)
    if bare is not None and Path(bare).suffix.lower() in image_suffixes():
        bare = Path(bare).stem
    numbered = NUMBERED.match(bare or "")
    return [name.casefold() for name in (stem, bare, numbered and numbered[1]) if name]


NUMBERED = re.compile(r"(.+?)[-_. ]+\d+$")
"""``NAME_0_mask``, ``NAME_1_mask``: several of one photo."""


@dataclass
class Pairs:
    """``masks``: photo -> its mask file, or several; ``unused``: mask files and why."""

    masks: Dict[Path, Union[Path, Tuple[Path, ...]]] = field(default_factory=dict)
    unused: Dict[Path, Reason] = field(default_factory=dict)


def pair(root: Path, photos: Sequence[Path], masks: Sequence[Path]) -> Pairs:
    """Give each photo its mask: the one whose folders below the mask folder agree best with the photo's. A
    mask that fits several photos equally well, and masks of which several fit one photo, are used for none: a
    wrong truth must not pass."""
    by_stem: Dict[str, List[Path]] = defaultdict(list)
    for photo in photos:
        by_stem[photo.stem.casefold()].append(photo)
    found, chosen = Pairs(), defaultdict(list)
    for mask in masks:
        owners, rank = _owners(root, mask, by_stem)
        if len(owners) == 1:
            chosen[owners[0]].append((rank, mask))
        else:
            found.unused[mask] = SEVERAL if owners else NO_PHOTO
    for photo, ranked in chosen.items():
        best = max(rank for rank, _ in ranked)
        files = [mask for rank, mask in ranked if rank == best]
        if len(files) == 1:
            found.masks[photo] = files[0]
        elif all(_is_one_of_several(mask, photo) for mask in files):
            found.masks[photo] = tuple(files)
        else:
            found.unused.update({mask: RIVALS for mask in files})
        found.unused.update({mask: RIVALS for rank, mask in ranked if rank != best})
    return found


def _is_one_of_several(mask: Path, photo: Path) -> bool:
    """In a folder of the photo's name, or numbered behind it."""
    stem, affix = photo.stem.casefold(), AFFIX.match(mask.stem)
    bare = (affix["behind"] or affix["before"]) if affix else mask.stem
    counted = affix is not None and affix["number"] is not None or bare.casefold() != stem
    return mask.parent.name.casefold() == stem or counted and stem in keys(mask)


def _owners(root: Path, mask: Path, by_stem: Dict[str, List[Path]]) -> Tuple[List[Path], int]:
    """The photos that a mask fits best, and how well."""
    above, below = _around(mask.parent.relative_to(root).parts)
    if above is None:  # beside its photo, or in a folder that only looks like masks
        if any(photo.parent == mask.parent for photos in by_stem.values() for photo in photos):
            near = [photo for key in keys(mask) for photo in by_stem.get(key, ())]
            return [photo for photo in near if photo.parent == mask.parent and photo != mask][:1], 100
        above = [part.casefold() for part in mask.parent.relative_to(root).parts[:-1]]
    tries = [(below, key) for key in keys(mask)]
    if below:
        tries.append((below[:-1], below[-1]))  # a folder a photo
    for folders, key in tries:
        ranks = {photo: _rank(photo.parent.relative_to(root).parts, above, folders)
                 for photo in by_stem.get(key, ()) if photo != mask}
        best = max(ranks.values(), default=-1)
        if best >= 0:
            return [photo for photo, rank in ranks.items() if rank == best], best
    return [], -1


def _around(parts: Sequence[str]) -> Tuple[Optional[List[str]], List[str]]:
    """Folder names above and below the first mask folder; None where there is none."""
    folded = [part.casefold() for part in parts]
    place = next((i for i, part in enumerate(parts) if is_mask_folder(part)), None)
    return (None, []) if place is None else (folded[:place], folded[place + 1 :])


def _rank(photo: Sequence[str], above: Sequence[str], below: Sequence[str]) -> int:
    """How many of the folders below the mask folder are the photo's; -1 where they contradict each other.
    Words like bad and test may be left out on either side."""
    own = [part.casefold() for part in photo]
    if own[: len(above)] != list(above):
        shared = [part for part in above if _tells(part)]
        if any(part not in own for part in shared):
            return -1
    rest = own[len(above) :] if own[: len(above)] == list(above) else own
    told = [part for part in below if _tells(part)]
    if told and told != [part for part in rest if _tells(part)][-len(told) :]:
        return -1
    same = next((n for n in range(len(below), 0, -1) if rest[-n:] == list(below[-n:])), 0)
    return 10 * same + len(told) + (own == list(above))


def _tells(part: str) -> bool:
    """Whether a folder's name is a kind of defect's, and not just what bad photos are in."""
    return not meaning(part) and part not in ("train", "test", "test_public", "validation", "images", "image")


def beside(photos: Sequence[Path]) -> Set[Path]:
    """The masks among the images of one folder: ``NAME_mask.png`` beside ``NAME.jpg``, and of two files of
    one name the one that looks like a mask. Reads pixels where names do not tell."""
    by_stem: Dict[str, List[Path]] = defaultdict(list)
    for path in photos:
        by_stem[path.stem.casefold()].append(path)
    found: Set[Path] = set()
    for path in photos:
        affix = AFFIX.match(path.stem)
        sure = affix is not None and bool(SURE.fullmatch(affix["front"] or affix["word"]))
        others = {*keys(path), *_unnumbered(path)} - {path.stem.casefold()}
        owners = [photo for key in others for photo in by_stem.get(key, ())]
        if sure and owners and affix is not None and affix["number"] is None:
            found.add(path)
        elif (sure or owners) and looks_like_mask(path) and not any(map(looks_like_mask, owners)):
            found.add(path)
    for paths in by_stem.values():
        if len(paths) > 1:
            masks = [path for path in paths if looks_like_mask(path)]
            found.update(masks if len(masks) < len(paths) else ())
    return found


def _unnumbered(path: Path) -> List[str]:
    """Not for masks in folders of their own: a stale ``part_2.png`` is not one of ``part.jpg``."""
    found = NUMBERED.match(path.stem)
    return [found[1].casefold()] if found else []


def looks_like_mask(path: Path) -> bool:
    """Grey of two values, but for edges, of few values, or few colours. False for what cannot be read."""
    try:
        image = read_picture(path).stored
    except InputError:
        return False
    if image.ndim == 3 and (image[..., :3] != image[..., :1]).any():
        return len(np.unique(image[..., :3].reshape(-1, 3), axis=0)) <= FEW
    grey = image if image.ndim == 2 else image[..., 0]
    near = NEAR * float(grey.max())
    two_valued = ((grey <= near) | (grey >= grey.max() - near)).mean()
    return len(np.unique(grey)) <= FEW or bool(two_valued >= TWO_VALUED)
