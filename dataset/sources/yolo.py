"""The label format of YOLO: a folder with data.yaml, as Ultralytics reads it, or with pictures, labels and class names.

Facts of the format: docs.ultralytics.com/datasets/detect, and docs.cvat.ai for the layout without data.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dataset.sources import folders, labels, pictures
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split
from dataset.sources.folders import TEST
from utility.errors import UserError
from utility.files.text_files import finite_number, read_utf8, shortened
from utility.files.yaml_files import read_yaml
from utility.flags import SourceFlag

# The label files of YOLO: a line for each object, `class xc yc width height` in fractions of the picture.

_MOST_BYTES = 50_000_000
_BEYOND = Decimal("0.00001")  # by which rounding may take a number out of [0, 1]
_ROUNDING_PX = Decimal("0.1")  # an edge that is out of the picture by less is on its border
_COUNTS = "class xc yc width height, or class and a polygon of three points or more"


def label_paths(picture: Path) -> tuple[Path, Path]:
    """Return where the labels of a picture may be: the last `/images/` of its path as `/labels/`, or else beside it."""
    before, images, after = str(picture.absolute()).rpartition("/images/")
    beside = picture.with_suffix(".txt")
    return (Path(f"{before}/labels/{after}").with_suffix(".txt") if images else beside), beside


def read_objects(
    path: Path, class_names: Sequence[str], size: tuple[int, int], *, keypoints: bool
) -> tuple[LabelledObject, ...]:
    """Return the objects of a label file; none if it is empty.

    The numbers are taken as the decimals that they are and multiplied by the size before anything is rounded: where
    they stand for whole pixels, the box has these. A pixel of a picture 500 wide is .002; with six decimals, as most
    tools write them, a picture of 375 rows keeps a pixel to .0004.

    Args:
        path: the label file.
        class_names: by the class ids of the file, which begin with 0.
        size: height and width of the upright picture in pixels.
        keypoints: the numbers after the box are points of a skeleton, as `kpt_shape` in data.yaml says.

    Raises:
        UserError: the file is not UTF-8 or too large, or has a line of another length, with a text that is no number,
            a class id without a name, or numbers outside of [0, 1]; the message names file and line.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path} has more than {_MOST_BYTES // 1_000_000} MB: give a line for each object")
    lines = ((number, line.split()) for number, line in enumerate(read_utf8(path).split("\n"), start=1))
    return tuple(
        _read_object(fields[:5] if keypoints else fields, class_names, size, f"{path}, line {number}")
        for number, fields in lines
        if fields
    )


def _read_object(
    fields: Sequence[str], class_names: Sequence[str], size: tuple[int, int], where: str
) -> LabelledObject:
    if len(fields) != 5 and (len(fields) < 7 or len(fields) % 2 == 0):
        scored = "; a sixth may be a score, as of detections: leave it out" if len(fields) == 6 else ""
        raise UserError(f"{where} has {len(fields)} numbers, not {_COUNTS}{scored}")
    broken = [field for field in fields if finite_number(field) is None]
    if broken:
        raise UserError(f"{where}: '{shortened(broken[0])}' is no number: write {_COUNTS}")
    class_id, *numbers = map(Decimal, fields)
    if class_id != int(class_id) or not 0 <= class_id < len(class_names):
        raise UserError(
            f"{where}: the class is {shortened(fields[0])}, but there are {len(class_names)} names, for 0 to "
            f"{len(class_names) - 1}: correct it, or add the names that are missing"
        )
    outside = [
        field for field, number in zip(fields[1:], numbers, strict=True) if not -_BEYOND <= number <= 1 + _BEYOND
    ]
    if outside:
        raise UserError(
            f"{where}: {shortened(outside[0])} is not from 0 to 1: divide pixels by the width and height of the picture"
        )
    return LabelledObject(class_names[int(class_id)], _box_yxyx_px(numbers, size), difficult=False, truncated=False)


def _box_yxyx_px(numbers: Sequence[Decimal], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box of xc, yc, width, height, or around a polygon."""
    if len(numbers) == 4:
        xc, yc, width, height = numbers
        fractions = (yc - height / 2, xc - width / 2, yc + height / 2, xc + width / 2)
    else:
        xs, ys = numbers[::2], numbers[1::2]
        fractions = (min(ys), min(xs), max(ys), max(xs))
    ymin, xmin, ymax, xmax = (
        float(_on_border(each * side, side)) for each, side in zip(fractions, size * 2, strict=True)
    )
    return ymin, xmin, ymax, xmax


def _on_border(edge_px: Decimal, side_px: int) -> Decimal:
    """Return an edge, on the border of the picture if it is a little outside."""
    inside = min(max(edge_px, Decimal(0)), Decimal(side_px))
    return inside if abs(edge_px - inside) <= _ROUNDING_PX else edge_px


FLAGS: tuple[SourceFlag, ...] = (folders.DIRECTORY_FLAG, folders.LABELS_FLAG)
_KEYS = {TRAIN: ("train",), VALIDATION: ("val", "validation"), TEST: ("test",)}  # of data.yaml
_NAMES_FILES = ("classes.txt", "obj.names", "labels.txt")  # of labelImg and Label Studio, of darknet and CVAT
_SPLIT_FLAGS = {TRAIN: "train: in data.yaml", VALIDATION: "val: in data.yaml"}


@dataclass(frozen=True)
class _Pictures:
    """The pictures of a split; `name` says where they come from."""

    name: str
    paths: Sequence[Path]


@dataclass(frozen=True)
class _Description:
    """What data.yaml says; `path` is None where there is no such file, and so nothing is said."""

    path: Path | None
    entries: Mapping[str, Any]


def read(values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
    """Read the data set that the flags name; see `formats.SourceFormat` and `read_data_set`."""
    return read_data_set(Path(values["dataset_directory"]), values["labels_file"], skip_bad_images)


def read_data_set(root: Path, labels_file: str | None, skip_bad: bool) -> DataSet:
    """Read the labels of a folder; no picture is decoded, but its size is read from its header.

    data.yaml, or the only other .yaml, says which pictures are for training and validation. Without one they are those
    below `images/` or below the folder itself, by its folders train/ and val/, if there are such. The test pictures are
    for validation where there are no others. Class ids are those of the labels, plus 1.

    Args:
        root: the folder.
        labels_file: one class name a line; None or 'auto' for those in data.yaml or a names file.
        skip_bad: leave out images that are missing or whose labels are bad, instead of raising.

    Raises:
        OSError: a folder or file is missing.
        UserError: no or bad class names, no pictures, no label file for any picture of a split, or bad labels.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"--dataset_directory: {root} is not a folder: give the one of data.yaml, or of images/"
        )
    description = _describe(root)
    found = _pictures_by_entry(root, description) if description.path else _pictures_by_folder(root)
    class_names = _class_names(root, description, labels_file)
    if VALIDATION not in found and TEST in found:
        found[VALIDATION] = _Pictures(f"{found[TEST].name}, as there is no val", found[TEST].paths)
    splits = {
        prefix: _read_split(root, found[prefix], class_names, description, skip_bad)
        for prefix in (TRAIN, VALIDATION)
        if prefix in found
    }
    return DataSet(class_names, {"dataset_directory": str(root.resolve())}, splits, _SPLIT_FLAGS)


def _describe(root: Path) -> _Description:
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml"))
    usual = [path for path in files if path.stem.lower() == "data"]
    if len(files) > 1 and len(usual) != 1:
        raise UserError(f"{root} has {', '.join(path.name for path in files)}: call the one of the data set data.yaml")
    path = next(iter(usual or files), None)
    return _Description(path, read_yaml(path) if path else {})


def _pictures_by_entry(root: Path, description: _Description) -> dict[str, _Pictures]:
    """Return the pictures that data.yaml names, by TRAIN, VALIDATION and TEST."""
    said, path = description.entries, description.path
    base = root / _as_path(said.get("path", ""), f"{path}: path")
    bases = [base, root] if base.is_dir() else [root]  # a data set that was moved keeps its old path
    found = {}
    for split, keys in _KEYS.items():
        key = next((key for key in keys if said.get(key)), None)
        if key:
            entries = said[key] if isinstance(said[key], list) else [said[key]]
            places = [_find(_as_path(entry, f"{path}: {key}"), bases, f"{path}: {key}") for entry in entries]
            paths = {each for place in places for each in _pictures_at(place, bases, f"{path}: {key}")}
            found[split] = _Pictures(", ".join(map(str, entries)), sorted(paths, key=lambda each: each.parts))
    if not found:
        raise UserError(f"{path} names no pictures: it has neither train: nor val: nor test:, each with a folder")
    return found


def _as_path(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where} is {shortened(value)}, not the path of a folder or of a .txt list of pictures")
    return value.replace("\\", "/")


def _find(entry: str, bases: Sequence[Path], where: str) -> Path:
    """Return the folder or list that an entry names; as for Ultralytics, a leading ../ may be too many."""
    tried = [base / way for base in bases for way in (entry, entry.removeprefix("../"))]
    for path in tried:
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{where} is '{shortened(entry)}', but there is no {tried[0]}: correct it, or add the folder"
    )


def _pictures_at(place: Path, bases: Sequence[Path], where: str) -> list[Path]:
    """Return the pictures below a folder, or those in a list."""
    if place.is_dir():
        found = [path for path in folders.files_below(place) if folders.is_picture(path)]
    else:
        lines = [line.strip().replace("\\", "/") for line in read_utf8(place).split("\n")]
        found = [_listed(line, [place.parent, *bases]) for line in lines if line]
    if not found:
        raise UserError(f"{where}: there is no picture ({', '.join(folders.SUFFIXES)}) in {place}")
    return found


def _listed(line: str, bases: Sequence[Path]) -> Path:
    """Return the picture of a line in a list, below the first base that has it."""
    return next((path for base in bases if (path := base / line).is_file()), bases[0] / line)


def _pictures_by_folder(root: Path) -> dict[str, _Pictures]:
    """Return the pictures of a folder without data.yaml, by TRAIN, VALIDATION and TEST."""
    base = root / "images" if (root / "images").is_dir() else root
    places = folders.split_folders(base) or {TRAIN: base}
    found = {}
    for split, place in places.items():
        paths = [path for path in folders.files_below(place) if folders.is_picture(path)]
        if not paths:
            raise FileNotFoundError(
                f"no data.yaml in {root}, and no picture ({', '.join(folders.SUFFIXES)}) below {place}"
                + (folders.hint(root, "yolo") or ": give the folder of data.yaml, or of images/ and labels/")
            )
        found[split] = _Pictures(place.relative_to(root).as_posix(), paths)
    return found


def _class_names(root: Path, description: _Description, labels_file: str | None) -> tuple[str, ...]:
    if labels_file and labels_file != "auto":
        return labels.read_labels(labels_file)
    said = description.entries.get("names")
    if said:
        return _names_said(said, description)
    places = [root, root / "labels", root / "images", *folders.split_folders(root).values(), root / "train" / "labels"]
    for path in (place / name for place in places for name in _NAMES_FILES):
        if path.is_file():
            return labels.read_labels(path)
    raise UserError(
        f"no class names in {root}: write them to {root / _NAMES_FILES[0]}, one a line in the order of the class ids "
        f"from 0, or give such a file as --labels_file{folders.hint(root, 'yolo')}"
    )


def _names_said(said: Any, description: _Description) -> tuple[str, ...]:
    """Return the names of data.yaml: a list, or a map of class ids."""
    where = f"{description.path}: names"
    if isinstance(said, dict):
        if {*said} != {str(number) for number in range(len(said))}:
            raise UserError(f"{where} must have the class ids 0 to {len(said) - 1}, but has {shortened([*said])}")
        said = [said[str(number)] for number in range(len(said))]
    if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
        raise UserError(f"{where} is {shortened(said)}, not a list of names or a map of class ids")
    found = tuple(name.strip() for name in said)
    labels.check_names(found, where, "name")
    count = description.entries.get("nc", str(len(found)))
    if count != str(len(found)):
        raise UserError(f"{description.path} has nc: {shortened(count)}, but {len(found)} names: correct one of them")
    return found


def _read_split(
    root: Path, found: _Pictures, class_names: Sequence[str], description: _Description, skip_bad: bool
) -> Split:
    """Read the labels of pictures; one without a label file has no objects, but not all may be without."""
    files = {path: next(filter(Path.is_file, label_paths(path)), None) for path in found.paths}
    if not any(files.values()):
        first = found.paths[0]
        looked_for = " or ".join(dict.fromkeys(map(str, label_paths(first))))
        raise FileNotFoundError(
            f"none of the {len(files)} pictures of {found.name} has a label file: for {first} there should be "
            f"{looked_for}{folders.hint(root, 'yolo')}"
        )
    ids = dict(zip(found.paths, folders.image_ids(found.paths, root), strict=True))
    keypoints = "kpt_shape" in description.entries
    sources: list[Source] = []
    skipped: list[str] = []
    for path, label_path in tqdm(files.items(), desc=f"{found.name} labels", unit="file", disable=None, leave=False):
        try:
            size = pictures.upright_size(path)
            objects = read_objects(label_path, class_names, size, keypoints=keypoints) if label_path else ()
        except ValueError as error:
            if not skip_bad:
                raise UserError(f"{error} (--skip_bad_images leaves such images out)") from error
            skipped.append(str(error))
        else:
            shown = label_path or path
            where = shown.relative_to(root).as_posix() if shown.is_relative_to(root) else str(shown)
            sources.append(Source(where, Annotation(ids[path], shown, *size, objects), path))
    return Split(found.name, {"pictures": found.name}, tuple(sources), tuple(skipped))
