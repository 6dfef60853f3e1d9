"""The label format of YOLO: a folder with data.yaml, as Ultralytics reads it, or with pictures, labels and class names.

Facts of the format: docs.ultralytics.com/datasets/detect; for the layouts without data.yaml docs.cvat.ai and Darknet's
own obj.data, with a list of the pictures of each split.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from dataset.sources import folders, labels, pictures
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split
from dataset.sources.folders import TEST, SourceFlag, finite_number
from utility.errors import UserError
from utility.files.text_files import read_utf8, shortened
from utility.files.yaml_files import read_yaml

FLAGS: tuple[SourceFlag, ...] = (folders.DIRECTORY_FLAG, folders.LABELS_FLAG)
_SPLIT_FLAGS = {TRAIN: "train: in data.yaml", VALIDATION: "val: in data.yaml"}
# of data.yaml and obj.data, and the names of lists of pictures
_KEYS = {TRAIN: ("train",), VALIDATION: ("val", "valid", "validation"), TEST: ("test",)}
# of labelImg and Label Studio, of Darknet and CVAT, of V7 Darwin
_NAMES_FILES = ("classes.txt", "obj.names", "labels.txt", "darknet.labels")
_SUFFIXES = ", ".join(folders.SUFFIXES)
_COUNTS = "class xc yc width height, or class and a polygon of three points or more"
_BEYOND = Decimal("0.00001")  # by which rounding may take a number out of [0, 1]
_ROUNDING_PX = Decimal("0.1")  # an edge that is out of the picture by less is on its border


class ClassNumberError(UserError):
    """A class without a name: names and numbers of the whole data set do not fit, which leaving pictures out hides."""


def read_data_set(values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
    """Read the labels of a folder, as `formats.SourceFormat` says; a picture's size is read from its header.

    data.yaml, or the only other .yaml, says which pictures are for training and validation. If it does not, or there is
    none, the lists of obj.data do, or train.txt and valid.txt. Without these the pictures are those below `images/` or
    below the folder itself, by its folders train/ and val/, if there are such. The test pictures are for validation
    where there are no others. Class ids are 1 to C in the order of the ids in the labels.
    """
    root = Path(values["dataset_directory"])
    if not root.is_dir():
        raise FileNotFoundError(f"--dataset_directory: {root} is no folder: give the one of data.yaml, or of images/")
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml"))
    usual = [path for path in files if path.stem.lower() == "data"]
    if len(files) > 1 and len(usual) != 1:
        raise UserError(f"{root} has {', '.join(path.name for path in files)}: call the one of the data set data.yaml")
    described = next(iter(usual or files), None)
    entries = read_yaml(described) if described else {}
    if described and any(entries.get(key) for keys in _KEYS.values() for key in keys):
        found = _pictures_by_entry(root, described, entries)
    else:
        found = _pictures_by_list(root) or _pictures_by_folder(root)
    class_of = _class_names(root, described, entries, values["labels_file"])
    if VALIDATION not in found and TEST in found:
        name, paths = found[TEST]
        found[VALIDATION] = (f"{name}, as there is no val", paths)
    has_keypoints = "kpt_shape" in entries
    splits = {
        prefix: _read_split(root, *found[prefix], class_of, has_keypoints, skip_bad_images)
        for prefix in (TRAIN, VALIDATION)
        if prefix in found
    }
    class_names, origin = tuple(class_of.values()), {"dataset_directory": str(root.resolve())}
    taken = {path for _, paths in found.values() for path in paths}
    notes = _left_over(root, taken, splits.values())
    return DataSet(class_names, origin, splits, _SPLIT_FLAGS, pixel_extent=0.0, notes=notes)


def _left_over(root: Path, taken: Collection[Path], splits: Iterable[Split]) -> tuple[str, ...]:
    """Return notes on pictures that are in no split, and on those without a label file."""
    known = {os.path.normpath(path) for path in taken}  # without the ../ that data.yaml may have
    unlisted = [path for path in folders.pictures_below(root) if os.path.normpath(path) not in known]
    bare = [each.where for split in splits for each in split.sources if each.annotation.path == each.image_path]
    notes = []
    if unlisted:
        notes.append(f"{len(unlisted)} pictures in {root} are in no split, and left out, the first: {unlisted[0]}")
    if bare:
        notes.append(f"{len(bare)} pictures without a label file count as without objects, the first: {bare[0]}")
    return tuple(notes)


def _pictures_by_list(root: Path) -> dict[str, tuple[str, list[Path]]]:
    """Return the pictures of Darknet's lists, as `_pictures_by_entry` does; {} where there is none.

    obj.data has a line such as `train = data/train.txt` for each, and a list a path such as data/obj_train_data/a.jpg
    for each picture, which need not begin at this folder. Without obj.data, the lists are those of the usual names.
    """
    named = {}
    if (described := root / "obj.data").is_file():
        entries = (line.partition("=") for line in read_utf8(described).split("\n"))
        named = {key.strip().lower(): root / PurePosixPath(value.strip()).name for key, _, value in entries}
    found = {}
    for split, keys in _KEYS.items():
        places = [named[key] for key in keys if key in named] or [root / f"{key}.txt" for key in keys]
        place = next(filter(Path.is_file, places), None)
        lines = [line.strip() for line in read_utf8(place).split("\n") if line.strip()] if place else []
        if place and lines and folders.is_picture(Path(lines[0])):
            found[split] = (place.name, sorted({_listed(line, root) for line in lines}, key=lambda path: path.parts))
    return found


def _listed(line: str, root: Path) -> Path:
    """Return the picture that a line of a list names: by the longest end of its path that there is in the folder."""
    path = PurePosixPath(line.replace("\\", "/"))
    parts = path.relative_to(path.anchor).parts
    tried = [*(root.joinpath(*parts[first:]) for first in range(len(parts))), Path(path)]
    return next(filter(Path.is_file, tried), tried[0])


def _pictures_by_entry(root: Path, described: Path, entries: Mapping[str, Any]) -> dict[str, tuple[str, list[Path]]]:
    """Return the pictures that data.yaml names, with a name for them, by TRAIN, VALIDATION and TEST."""
    base = root / _as_path(entries.get("path", ""), f"{described}: path")
    bases = [base, root] if base.is_dir() else [root]  # a data set that was moved keeps its old path
    found = {}
    for split, keys in _KEYS.items():
        key = next((key for key in keys if entries.get(key)), None)
        if key:
            where, named = f"{described}: {key}", entries[key] if isinstance(entries[key], list) else [entries[key]]
            try:
                paths = {path for entry in named for path in _pictures_at(_as_path(entry, where), bases, where)}
            except FileNotFoundError:
                if split != TEST:  # which data.yaml may name without having it
                    raise
                continue
            if not paths and split == TRAIN:
                raise UserError(f"{where}: there is no picture ({_SUFFIXES}) in {', '.join(map(str, named))}")
            if not paths:
                continue
            found[split] = (", ".join(map(str, named)), sorted(paths, key=lambda path: path.parts))
    return found


def _as_path(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where} is {shortened(value)}, not the path of a folder or of a .txt list of pictures")
    return value.replace("\\", "/")


def _pictures_at(entry: str, bases: Sequence[Path], where: str) -> list[Path]:
    """Return the pictures below the folder, or in the list, that an entry of data.yaml names."""
    # as for Ultralytics, a leading ../ may be too many
    tried = [base / way for base in bases for way in (entry, entry.removeprefix("../"))]
    path = PurePosixPath(entry)
    if path.is_absolute():  # of a data set that was moved
        tried += [bases[-1].joinpath(*path.parts[first:]) for first in range(1, len(path.parts))]
    place = next(filter(Path.exists, tried), None)
    if place is None:
        raise FileNotFoundError(
            f"{where} is '{shortened(entry)}', but there is no {tried[0]}: correct it, or add the folder"
        )
    if place.is_dir():
        found = folders.pictures_below(place)
    else:
        lines = [line.strip().replace("\\", "/") for line in read_utf8(place).split("\n") if line.strip()]
        choices = [[base / line for base in (place.parent, *bases)] for line in lines]
        found = [next(filter(Path.is_file, paths), paths[0]) for paths in choices]
    return found


def _pictures_by_folder(root: Path) -> dict[str, tuple[str, list[Path]]]:
    """Return the pictures of a folder without data.yaml, as `_pictures_by_entry` does."""
    base = root / "images" if (root / "images").is_dir() else root
    found = {}
    for split, place in (folders.split_folders(base) or {TRAIN: base}).items():
        found[split] = (place.relative_to(root).as_posix(), folders.pictures_below(place))
        if not found[split][1]:
            raise FileNotFoundError(
                f"no data.yaml in {root}, and no picture ({_SUFFIXES}) below {place}"
                + (folders.hint(root, "yolo") or ": give the folder of data.yaml, or of images/ and labels/")
            )
    return found


def _class_names(
    root: Path, described: Path | None, entries: Mapping[str, Any], labels_file: str | None
) -> dict[int, str]:
    """Return the class names by id: of --labels_file, or else of data.yaml, or else of a file of a usual name."""
    if labels_file and labels_file != "auto":
        return dict(enumerate(labels.read_labels(labels_file)))
    said = entries.get("names")
    if not said:
        places = [root, root / "labels", root / "images", *folders.split_folders(root).values()]
        for path in (place / name for place in (*places, root / "train" / "labels") for name in _NAMES_FILES):
            if path.is_file():
                return dict(enumerate(labels.read_labels(path)))
        raise UserError(
            f"no class names in {root}: write them to {root / _NAMES_FILES[0]}, one a line in the order of the class "
            f"ids from 0, or give such a file as --labels_file{folders.hint(root, 'yolo')}"
        )
    where = f"{described}: names"
    if isinstance(said, list):
        said = {str(number): name for number, name in enumerate(said)}
    if not isinstance(said, dict) or not all(isinstance(name, str) for name in said.values()):
        raise UserError(f"{where} is {shortened(said)}, not a list of names or a map of class ids")
    if wrong := [key for key in said if not (key.isascii() and key.isdecimal() and len(key) < 10)]:
        raise UserError(f"{where}: {shortened(wrong[0])} is no class id: write a whole number from 0")
    found = {int(key): said[key].strip() for key in sorted(said, key=int)}  # ids may have gaps
    labels.check_names([*found.values()], where, "name")
    count = entries.get("nc", str(len(found)))
    if count not in (str(len(found)), str(max(found) + 1)):
        raise UserError(f"{described} has nc: {shortened(count)}, but {len(found)} names: correct one of them")
    return found


def _read_split(
    root: Path, name: str, paths: Sequence[Path], class_of: Mapping[int, str], has_keypoints: bool, skip_bad: bool
) -> Split:
    """Read the labels of pictures; one without a label file has no objects, but not all may be without."""
    files = {path: next(filter(Path.is_file, _label_paths(path)), None) for path in paths}
    if not any(files.values()):
        looked_for = " or ".join(dict.fromkeys(map(str, _label_paths(paths[0]))))
        raise FileNotFoundError(
            f"none of the {len(files)} pictures of {name} has a label file: for {paths[0]} there should be "
            f"{looked_for}{folders.hint(root, 'yolo')}"
        )
    ids = folders.image_ids(paths, root)
    sources, skipped = [], []
    progress = tqdm(files.items(), desc=f"{name} labels", unit="file", disable=None, leave=False)
    for image_id, (path, label_path) in zip(ids, progress, strict=True):
        try:
            size = pictures.upright_size(path)
            objects = read_objects(label_path, class_of, size, keypoints=has_keypoints) if label_path else ()
        except ClassNumberError:
            raise
        except UserError as error:
            if not skip_bad:
                raise UserError(f"{error} (--skip_bad_images leaves such images out)") from error
            skipped.append(str(error))
        else:
            shown = label_path or path
            where = shown.relative_to(root).as_posix() if shown.is_relative_to(root) else str(shown)
            sources.append(Source(where, Annotation(image_id, shown, *size, objects), path))
    return Split(name, {"pictures": name}, tuple(sources), tuple(skipped))


def _label_paths(picture: Path) -> tuple[Path, Path]:
    """Return where the labels of a picture may be: the last `/images/` of its path as `/labels/`, or else beside it."""
    before, images, after = str(picture.absolute()).rpartition("/images/")
    beside = picture.with_suffix(".txt")
    return (Path(f"{before}/labels/{after}").with_suffix(".txt") if images else beside), beside


def read_objects(
    path: Path, class_of: Mapping[int, str], size: tuple[int, int], *, keypoints: bool
) -> tuple[LabelledObject, ...]:
    """Return the objects of a label file, a line each: `class xc yc width height` in fractions of the picture.

    The numbers are taken as the decimals that they are and multiplied by the size before anything is rounded: where
    they stand for whole pixels, the box has these. A pixel of a picture 500 wide is .002; with six decimals, as most
    tools write them, a picture of 375 rows keeps a pixel to .0004.

    Class ids begin with 0; `size` is height and width of the upright picture in pixels. With `keypoints`, the numbers
    after the box are points of a skeleton, as `kpt_shape` in data.yaml says.

    Raises:
        UserError: the file is not UTF-8, or has a bad line, which the message names.
    """
    objects = []
    for line_number, line in enumerate(read_utf8(path).split("\n"), start=1):
        where, fields = f"{path}, line {line_number}", line.split()[: 5 if keypoints else None]
        if not fields:
            continue
        if len(fields) != 5 and (len(fields) < 7 or len(fields) % 2 == 0):
            scored = "; a sixth may be a score, as of detections: leave it out" if len(fields) == 6 else ""
            raise UserError(f"{where} has {len(fields)} numbers, not {_COUNTS}{scored}")
        if broken := [field for field in fields if finite_number(field) is None]:
            commas = ", with decimal points, and blanks between the numbers" if "," in broken[0] else ""
            raise UserError(f"{where}: '{shortened(broken[0])}' is no number: write {_COUNTS}{commas}")
        class_id, *numbers = map(Decimal, fields)
        if class_id != int(class_id) or int(class_id) not in class_of:
            is_number = class_id == int(class_id) and class_id >= 0
            shifted = "; some tools (sahi, pylabel) count from 1, and then all classes are wrong" if is_number else ""
            raise (ClassNumberError if is_number else UserError)(
                f"{where}: the class is {shortened(fields[0])}, but there are {len(class_of)} names, for "
                f"{min(class_of)} to {max(class_of)}: correct it, or add the names that are missing{shifted}"
            )
        for field, number in zip(fields[1:], numbers, strict=True):
            if not -_BEYOND <= number <= 1 + _BEYOND:
                raise UserError(
                    f"{where}: {shortened(field)} is not from 0 to 1: divide pixels by the width and height of the "
                    "picture"
                )
        if len(numbers) == 4:
            xc, yc, width, height = numbers
            fractions = (yc - height / 2, xc - width / 2, yc + height / 2, xc + width / 2)
        else:  # the box around a polygon
            fractions = (min(numbers[1::2]), min(numbers[::2]), max(numbers[1::2]), max(numbers[::2]))
        ymin, xmin, ymax, xmax = map(_edge_px, fractions, size * 2)
        objects.append(LabelledObject(class_of[int(class_id)], (ymin, xmin, ymax, xmax), False, False))
    return tuple(objects)


def _edge_px(fraction: Decimal, side_px: int) -> float:
    """Return where the edge of a box is, on the border of the picture if it is a little outside."""
    edge_px = fraction * side_px
    inside_px = min(max(edge_px, Decimal(0)), Decimal(side_px))
    return float(inside_px if abs(edge_px - inside_px) <= _ROUNDING_PX else edge_px)
