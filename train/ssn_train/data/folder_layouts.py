"""Layouts that folders' names make: good and defect folders, the same below train and test (MVTec AD), and
photos whose labels are a tool's. No pixels but those of masks.

Every image gets a role or a reason; nothing that could be defective is taken for good.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

from ssn_edge.errors import InputError
from ssn_edge.inventory import Reason, files_below, is_hidden, is_image
from ssn_train.data import folder_names, label_files, mask_files
from ssn_train.data.folder_names import meaning
from ssn_train.data.label_files import Labels, Shapes
from ssn_train.data.mask_files import NO_PHOTO
from ssn_train.data.samples import Listing, Sample, Selection
from ssn_train.data.truth import Mask, read_truth
from ssn_train.data.truth import mask_files as mask_files_of

UNNAMED = Reason("images in folders whose names do not say good or bad", alarming=True)
UNLABELLED = Reason("images beside the folders that have a label", alarming=True)
IN_GOOD = Reason("images in folders inside good ones, which may hold anything", alarming=True)
OUTSIDE = Reason("images outside the folders for training and testing", alarming=True)
PRIVATE = Reason("test photos without labels")
LEFT_OUT = Reason("defective photos that --unsupervised leaves out")
MARKED_GOOD = Reason("photos called good on which a label marks a defect", alarming=True)
NOT_LISTED = Reason("images without a mask or label, so neither good nor bad", alarming=True)
NAMED_BAD = Reason("photos in good folders whose names say otherwise", alarming=True)
NAMED_NEITHER = Reason("photos whose names say neither good nor bad, as others' do", alarming=True)
SHOWN = Reason("pictures that show labels")
JSON_FOLDERS = Reason("folders of LabelMe's json_to_dataset, not read: its .json files are", alarming=True)
INSTANCES = Reason("masks of instances; those of classes are used")

Folders = Dict[Tuple[str, ...], List[Path]]
"""A folder's way from the root -> its images."""

Role = Union[str, Reason]


@dataclass
class _Sorted:
    """Images of one part of a data set: good ones, defective ones by kind, masks, and the others."""

    good: List[Path] = field(default_factory=list)
    bad: Dict[Tuple[str, ...], List[Path]] = field(default_factory=lambda: defaultdict(list))
    masks: List[Path] = field(default_factory=list)
    unused: Dict[Path, Reason] = field(default_factory=dict)

    def defective(self) -> List[Path]:
        return [path for paths in self.bad.values() for path in paths]


def images_by_folder(root: Path) -> Folders:
    """The images below ``root``, hidden ones left out, sorted."""
    found: Folders = {}
    for path in files_below(root):
        if is_image(path) and not is_hidden(path, root):
            found.setdefault(path.parent.relative_to(root).parts, []).append(path)
    return found


def _sort(folders: Folders, part: str = "") -> _Sorted:
    """Sort images by the names of their folders, given relative to the part's own. In a ``part`` ("train",
    "test", "validation") any name is a kind of defect's; images straight in it are good in "train" alone."""
    found = _Sorted()
    if not part:
        folders = {_unwrapped(parts): images for parts, images in folders.items()}
    named_good = any(parts and meaning(parts[0]) == "good" for parts in folders)
    straight: Role = UNLABELLED if named_good or part not in ("", "train") else "good"
    any_kind = bool(part) or named_good
    for parts, images in folders.items():
        role = _seen_role(_role(parts, any_kind) if parts else straight, parts, images, folders, any_kind)
        masks = set() if role == "masks" else mask_files.beside(images)
        found.masks += images if role == "masks" else sorted(masks)
        photos = [path for path in images if path not in masks]
        if role == "good":
            _take_good(photos, found)
        elif role == "bad":
            found.bad[parts] += photos
        elif isinstance(role, Reason):
            found.unused.update(dict.fromkeys(photos, role))
    return found


def _seen_role(
    role: Role, parts: Sequence[str], images: Sequence[Path], folders: Folders, any_kind: bool
) -> Role:
    """The role that a folder's names give it, held against what its pictures are called and look like."""
    if {"img", "label", "label_viz"} <= {path.stem for path in images}:
        return JSON_FOLDERS
    if role == "bad" and _holds_masks(images, folders):
        return "masks"
    if role != "masks" or not _may_be_labels(parts):
        return role
    if any(map(mask_files.looks_like_mask, images[:LOOKED_AT])):
        return role
    rest = [way for way in parts if not folder_names.is_mask_folder(way)]
    other = _role(rest, True) if rest else "bad" if any_kind else UNNAMED
    return IN_GOOD if other == "good" else other


def _take_good(photos: Sequence[Path], found: _Sorted) -> None:
    """Photos of a good folder, but for those whose own names say otherwise."""
    said = {path: folder_names.meaning_of_file(path.stem) for path in photos}
    found.unused.update({path: NAMED_BAD for path in photos if said[path] == "bad"})
    if {"good", "bad"} <= set(said.values()):  # names are labels here
        found.unused.update({path: NAMED_NEITHER for path in photos if not said[path]})
    found.good += [path for path in photos if path not in found.unused]


def _unwrapped(parts: Tuple[str, ...]) -> Tuple[str, ...]:
    while len(parts) > 1 and folder_names.is_wrapper(parts[0]):
        parts = parts[1:]
    return parts


def _may_be_labels(parts: Sequence[str]) -> bool:
    """Every word for masks on this way is also one for things: labels can be damaged."""
    named = [part for part in parts if folder_names.is_mask_folder(part)]
    return all(set(folder_names.words(part)) <= folder_names.LABELS for part in named)


def _holds_masks(images: Sequence[Path], folders: Folders) -> bool:
    """Pictures that all look like masks, with the stems of defective photos, which do not, where good photos
    do not either: silhouettes of backlit parts are no masks."""
    stems = {path.stem.casefold() for path in images}
    if not all(mask_files.looks_like_mask(path) for path in images[:LOOKED_AT]):
        return False
    for way, rest in folders.items():
        shared = [p for p in rest if p.stem.casefold() in stems and p.parent != images[0].parent]
        kinds = {path.stem.casefold() for path in shared}
        if "good" in map(meaning, way) or 2 * len(kinds) <= len(stems):
            continue
        if not any(mask_files.looks_like_mask(path) for path in shared[:LOOKED_AT]):
            good = [p for parts, paths in folders.items() if "good" in map(meaning, parts) for p in paths]
            alike = sum(map(mask_files.looks_like_mask, good[:LOOKED_AT]))
            return 2 * alike < len(good[:LOOKED_AT]) or not good
    return False


LOOKED_AT = 8
"""Pictures of a folder that tell what it holds."""


def _role(parts: Sequence[str], any_kind: bool) -> Role:
    """"good", "bad", "masks", or why images there are not used."""
    meanings = [meaning(part) for part in parts]
    if "masks" in meanings:
        return "masks"
    if "good" in meanings and "bad" in meanings:
        return UNNAMED
    if meanings[0] == "good":
        plain = all(m == "good" or folder_names.says_nothing(part) for part, m in zip(parts, meanings))
        return "good" if plain else IN_GOOD
    if "good" in meanings:
        return UNNAMED
    return "bad" if "bad" in meanings or any_kind and folder_names.names_a_kind(parts[0]) else UNNAMED


def _labelled(root: Path, parts: Sequence[_Sorted], labels: Labels, found: Listing) -> List[List[Sample]]:
    """Samples of each part, with the masks and shapes that belong to them; good first."""
    for part in parts:
        marked = [path for path in part.good if labels.shapes.get(path)]
        part.unused.update(dict.fromkeys(marked, MARKED_GOOD))
        part.good = [path for path in part.good if path not in part.unused]
    bad = [path for part in parts for path in part.defective()]
    good = [path for part in parts for path in part.good]
    masks = [path for part in parts for path in part.masks]
    for_good = [path for path in masks if _is_for_good(path, root)]
    pairs = mask_files.pair(root, bad, [path for path in masks if path not in set(for_good)])
    rest = [path for path, reason in pairs.unused.items() if reason is NO_PHOTO]
    of_good = mask_files.pair(root, good, rest + for_good)
    found.unused.update({**pairs.unused, **of_good.unused})
    marks: Dict[Path, Mask] = {p: s for p, s in labels.shapes.items() if s and all(one.polygons for one in s)}
    marks.update(pairs.masks)
    found.good_masks.update(of_good.masks)
    for mask in of_good.masks.values():
        for file in mask_files_of(mask):
            found.unused.pop(file, None)
    found.used.update(labels.used)
    found.unused.update(labels.unused)
    result = []
    for part in parts:
        found.unused.update(part.unused)
        samples = [Sample(path) for path in part.good]
        for way, paths in part.bad.items():
            kind = folder_names.kind_of(way)
            samples += [Sample(path, 1, marks.get(path), kind) for path in paths]
        result.append(samples)
    return result


def _is_for_good(mask: Path, root: Path) -> bool:
    """In a mask folder that says good: ``good_masks/``, ``masks/ok/``."""
    ways = mask.relative_to(root).parts[:-1]
    return any(folder_names.says_good(way) for way in ways)


def photos(root: Path, select: Selection) -> Listing:
    """Good and defect folders: ``good/`` (or images straight in the folder) and any other folder of a bad
    name or a defect's, at any depth; masks in mask folders or beside their photos."""
    found = Listing()
    sorted_images = _sort(images_by_folder(root))
    labels = label_files.find(root)
    (found.unsplit,) = _labelled(root, [sorted_images], labels, found)
    return found


def mvtec(root: Path, select: Selection) -> Listing:
    """``train`` and ``test`` (``test_public`` of MVTec AD 2), each sorted as :func:`photos`; good photos for
    validation are for training, defective ones for testing."""
    found, sides = Listing(), {"train": _Sorted(), "test": _Sorted(), "validation": _Sorted()}
    by_part: Dict[str, Folders] = {}
    for way, images in images_by_folder(root).items():
        part = way[0] if way else ""
        by_part.setdefault(part, {})[way[1:]] = images
    for part, folders in by_part.items():
        side = _side(part)
        if side:
            _merge(sides[side], _sort(folders, side))
        elif folder_names.is_mask_folder(part):
            sides["test"].masks += [path for paths in folders.values() for path in paths]
        else:
            private = "private" in folder_names.words(part)
            reason = PRIVATE if private else OUTSIDE
            found.unused.update({path: reason for paths in folders.values() for path in paths})
    labels = label_files.find(root)
    train, test, validation = _labelled(root, list(sides.values()), labels, found)
    found.train = _by_path(train + [sample for sample in validation if not sample.label])
    found.test = _by_path(test + [sample for sample in validation if sample.label])
    if not any(not sample.label for sample in found.train):
        raise InputError(
            f"{root / 'train'}: no images in it; expected the good training photos, straight in it or in "
            "train/good"
        )
    return found


def _by_path(samples: Sequence[Sample]) -> List[Sample]:
    return sorted(samples, key=lambda sample: sample.path)


def _side(part: str) -> str:
    if folder_names.is_part(part, folder_names.TRAIN):
        return "train"
    if folder_names.is_part(part, folder_names.VALIDATION):
        return "validation"
    return "test" if folder_names.is_test(part) else ""


def _merge(into: _Sorted, part: _Sorted) -> None:
    into.good += part.good
    into.masks += part.masks
    into.unused.update(part.unused)
    for way, paths in part.bad.items():
        into.bad[way] += paths


def labelled(root: Path, select: Selection) -> Listing:
    """Photos whose labels are a tool's: its files (COCO, LabelMe, YOLO, VOC) or a mask for each photo (CVAT,
    Roboflow). A photo is defective where something is marked on it, good where it is listed with nothing.
    Folders for training and testing are kept; without them nothing is split."""
    found, folders = Listing(), images_by_folder(root)
    labels = label_files.find(root)
    found.used.update(labels.used)
    found.unused.update(labels.unused)
    for way in [way for way in folders if any(map(folder_names.shows_labels, way))]:
        found.unused.update(dict.fromkeys(folders.pop(way), SHOWN))
    masks = _mask_images(folders, found)
    photos = [path for images in folders.values() for path in images if path not in masks]
    pairs = mask_files.pair(root, photos, sorted(path for path, used in masks.items() if used))
    found.unused.update(pairs.unused)
    sides: Dict[str, List[Sample]] = defaultdict(list)
    for photo in photos:
        sample = _by_label(photo, labels, pairs.masks.get(photo), found)
        if sample is None:
            found.unused[photo] = NOT_LISTED
        else:
            sides[_side(photo.relative_to(root).parts[0])].append(sample)
    if not sides["test"] and not sides["validation"]:
        found.unsplit = sides["train"] + sides[""]
        return found
    found.unused.update({sample.path: OUTSIDE for sample in sides[""]})
    found.train = sides["train"] + [sample for sample in sides["validation"] if not sample.label]
    found.test = sides["test"] + [sample for sample in sides["validation"] if sample.label]
    return found


def _mask_images(folders: Folders, found: Listing) -> Dict[Path, bool]:
    """Masks in mask folders or beside photos; False for those of instances where there are classes'."""
    masks: Dict[Path, bool] = {}
    classes = any("segmentationclass" in (part.casefold() for part in way) for way in folders)
    for way, images in folders.items():
        instances = classes and "segmentationobject" in (part.casefold() for part in way)
        if instances:
            found.unused.update(dict.fromkeys(images, INSTANCES))
        inside = any(folder_names.is_mask_folder(part) for part in way)
        masks.update(dict.fromkeys(images if inside else mask_files.beside(images), not instances))
    return masks


def _by_label(photo: Path, labels: Labels, mask: Optional[Mask], found: Listing) -> Optional[Sample]:
    """Defective where any label or mask marks something; good where one says that there is nothing."""
    shapes: Tuple[Shapes, ...] = labels.shapes.get(photo, ())
    if mask is not None and read_truth(mask).any():
        return Sample(photo, 1, mask, "defect")
    if shapes:
        return Sample(photo, 1, shapes if all(one.polygons for one in shapes) else None, "defect")
    if mask is not None:
        found.good_masks[photo] = mask
    return Sample(photo) if mask is not None or photo in labels.shapes else None
