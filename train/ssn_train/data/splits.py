"""Which photos are trained on, tested on and held back: all photos of a part lie on one side."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Dict, List, Mapping, Sequence, Tuple, Union

from ssn_edge.inventory import Reason
from ssn_train.data.samples import Listing, Sample
from ssn_train.data.truth import mask_files

TEST_SHARE_GOOD, TEST_SHARE_BAD = 0.2, 0.5
"""Shares of a plain folder's photos that are kept for testing where defects are given. Half of the
defects, each kind apart: there are few, and figures from fewer mean nothing."""

STRADDLING = Reason("training photos of parts that are tested", alarming=True)

Sides = Mapping[str, bool]
"""Part -> whether it is among the chosen: settled already."""


def split_samples(
    samples: Sequence[Sample], share: float, seed: int, settled: Sides = {}  # noqa: B006 (only read)
) -> Tuple[List[Sample], List[Sample]]:
    """(rest, chosen), order kept: a ``share`` of the parts, drawn at random whatever their size, so that
    parts to come are like those that were drawn.

    At least one part on each side where there are two; all samples for a share of 1. Samples without a part
    are parts of their own. Parts in ``settled`` are not drawn, and do not count.
    """
    if share == 1:
        return [], list(samples)
    units: Dict[Union[str, int], List[int]] = {}
    for place, sample in enumerate(samples):
        units.setdefault(sample.part or place, []).append(place)
    sides = [settled[name] for name in units if isinstance(name, str) and name in settled]
    free = [places for name, places in units.items() if name not in settled]
    most = len(free) if False in sides else len(free) - 1
    least = 0 if True in sides and len(free) < 2 else 1
    wanted = min(max(round(share * len(free)), least), most) if share > 0 else 0
    chosen = {place for place, sample in enumerate(samples) if settled.get(sample.part)}
    for unit in random.Random(seed).sample(range(len(free)), max(wanted, 0)):
        chosen.update(free[unit])
    rest = [s for i, s in enumerate(samples) if i not in chosen]
    return rest, [s for i, s in enumerate(samples) if i in chosen]


def split_by_label(samples: Sequence[Sample], unsupervised: bool) -> Tuple[List[Sample], List[Sample]]:
    """(to train on, to test on) of a data set that says only what is good and what not. Without defects
    nothing is tested on; ``unsupervised`` tests on all of them. The defects are split first, since they are
    few; the other photos of their parts follow them."""
    good = [sample for sample in samples if not sample.label]
    kinds: Dict[Tuple[str, str], List[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.label:
            kinds[sample.defect, str(sample.path.parent)].append(sample)
    if not kinds:
        return good, []
    sides: Dict[str, bool] = {}
    learnt: List[Sample] = []
    kept: List[Sample] = []
    for kind in kinds.values():
        rest, chosen = split_samples(kind, 1.0 if unsupervised else TEST_SHARE_BAD, 0, sides)
        for side, part_of in ((False, rest), (True, chosen)):
            sides.update({sample.part: side for sample in part_of if sample.part})
        learnt, kept = learnt + rest, kept + chosen
    train, test = split_samples(good, TEST_SHARE_GOOD, 0, sides)
    return train + learnt, test + kept


def hold_back(samples: Sequence[Sample], share: float, seed: int) -> Tuple[List[Sample], List[Sample]]:
    """(rest, held back) of the good ones of ``samples``: about ``share`` of them, at random, and no part of
    which a defect is trained on."""
    good = [sample for sample in samples if not sample.label]
    marked = {sample.part: False for sample in samples if sample.label and sample.part}
    return split_samples(good, share, seed, marked)


def keep_apart(found: Listing) -> None:
    """Leave out training photos of parts that are tested, and their masks: where a data set brings its own
    split, what is tested stays."""
    tested = {sample.part for sample in found.test if sample.part}
    for sample in [sample for sample in found.train if sample.part in tested]:
        good_mask = found.good_masks.pop(sample.path, None)
        masks = [mask for mask in (sample.mask, good_mask) if mask is not None]
        files = [sample.path, *(file for mask in masks for file in mask_files(mask))]
        found.unused.update(dict.fromkeys(files, STRADDLING))
        found.used = {path: use for path, use in found.used.items() if path not in files}
    found.train = [sample for sample in found.train if sample.part not in tested]
