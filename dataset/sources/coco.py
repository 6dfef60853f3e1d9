"""The label format of COCO: instances JSON files, and the folders with their images.

A box is x, y, width, height, measured in pixels from the image's corner: its edges are at x and x + width, and a box
around the whole image is 0, 0, image width, image height. Records hold the edges divided by the image's size, so
multiplying by the size gives COCO's edges again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from dataset.sources import labels, plausibility
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split
from utility.errors import UserError
from utility.files.json_files import read_foreign_json
from utility.files.text_files import shortened
from utility.flags import SourceFlag

FLAGS: tuple[SourceFlag, ...] = (
    SourceFlag("annotations", "of COCO: instances JSON of the training images"),
    SourceFlag("images", "of COCO: folder with the training images"),
    SourceFlag("validation_annotations", "of COCO: instances JSON of the validation images"),
    SourceFlag("validation_images", "of COCO: folder with the validation images"),
)
_SPLIT_FLAGS = {TRAIN: "--annotations", VALIDATION: "--validation_annotations"}
_MOST_ID = 2**63 - 1
_UNUSED = "segmentation"  # nine tenths of a file
_PAIRS = ("--annotations and --images", "--validation_annotations and --validation_images")

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Instances:
    """An instances JSON: category names by id, ascending; annotations and file names by image id.

    Each image has an annotation, possibly without objects; its `image_id` is the id in decimal digits.
    """

    path: Path
    category_names: dict[int, str]
    annotations: dict[int, Annotation]
    file_names: dict[int, str]


def read(values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
    """Read the data set that the flags name; see `formats.SourceFormat` and `read_data_set`."""
    return read_data_set(*(values[flag.name] for flag in FLAGS), skip_missing=skip_bad_images)


def read_data_set(
    annotations: str | Path | None,
    images: str | Path | None,
    validation_annotations: str | Path | None,
    validation_images: str | Path | None,
    *,
    skip_missing: bool,
) -> DataSet:
    """Read the training set, the validation set, or both; no picture is opened.

    Class ids are 1 to C in the order of category ids; image ids in the records are the `id`s of the JSON.

    Args:
        annotations: instances JSON of the training images; None for none.
        images: the folder of these images.
        validation_annotations: instances JSON of the validation images; None for none.
        validation_images: the folder of these images.
        skip_missing: leave out missing images instead of raising.

    Raises:
        FileNotFoundError: a JSON file or a folder is missing.
        UserError: no JSON file, one without folder, a bad one, different categories in two, or missing images.
    """
    folders: dict[str, Path] = {}
    read: dict[str, Instances] = {}
    for prefix, file, folder, flags in (
        (TRAIN, annotations, images, _PAIRS[0]),
        (VALIDATION, validation_annotations, validation_images, _PAIRS[1]),
    ):
        if file and folder:
            read[prefix], folders[prefix] = read_instances(file), Path(folder)
        elif file or folder:
            raise UserError(f"{flags} go together: one is the JSON file, the other the folder with its images")
    if not read:
        raise UserError(f"no images to convert: give {_PAIRS[0]}, or {_PAIRS[1]}, or all four")
    first = _with_same_categories([*read.values()])
    splits = {prefix: find_images(read[prefix], folder, skip_missing) for prefix, folder in folders.items()}
    class_names, origin = tuple(first.category_names.values()), {"category_ids": list(first.category_names)}
    corners = [plausibility.corners_for_sizes(str(each.path), each.annotations.values()) for each in read.values()]
    return DataSet(class_names, origin, splits, _SPLIT_FLAGS, tuple(chain(*corners)))


def _with_same_categories(read: Sequence[Instances]) -> Instances:
    """Return the first; a UserError if the others have other categories."""
    first, *others = read
    for other in others:
        different = first.category_names.items() ^ other.category_names.items()
        if different:
            category_id, name = min(different)
            raise UserError(
                f"{first.path} and {other.path} have different categories: id {category_id}, {name!r}, is not the same"
                " in both; make the lists equal"
            )
    return first


def find_images(instances: Instances, folder: str | Path, skip_missing: bool) -> Split:
    """Return the images of an instances JSON, in its order, as a split.

    Raises:
        FileNotFoundError: there is no such folder.
        UserError: an image is missing; with `skip_missing` it is left out.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: give the one with the images of {instances.path}")
    sources, missing = [], []
    for image_id, annotation in instances.annotations.items():
        image_path = folder / instances.file_names[image_id]
        if image_path.is_file():
            sources.append(Source(f"{instances.path.name}, image {image_id}", annotation, image_path))
        else:
            missing.append(f"{image_path}: there is no such file, the picture of image {image_id} in {instances.path}")
    if missing and not skip_missing:
        raise UserError(
            f"{missing[0]} ({len(missing)} of {len(instances.annotations)} are missing; --skip_bad_images leaves"
            " such images out)"
        )
    origin = {"annotations": str(instances.path.resolve()), "image_directory": str(folder.resolve())}
    return Split(instances.path.name, origin, tuple(sources), tuple(missing))


def read_instances(path: str | Path) -> Instances:
    """Read an instances JSON; objects with `iscrowd` are difficult, and segmentations are ignored.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is not JSON, or has a missing list or key, a repeated or non-integer id, an annotation of
            an unknown image or category, a bad box, a bad class name, or a file name that is absolute or leads out of
            the folder with the images.
    """
    path, document = Path(path), load(path)
    categories = _by_id(document, "categories", ("name",), path)
    images = _by_id(document, "images", ("file_name",), path)
    objects: dict[int, list[LabelledObject]] = {image_id: [] for image_id in images}
    category_names = _category_names(categories, path)
    for number, entry in _by_id(document, "annotations", ("image_id", "category_id", "bbox"), path).items():
        where = f"{path}: annotation {number}"
        image_id = _known_id(entry, "image_id", images, where)
        name = category_names[_known_id(entry, "category_id", category_names, where)]
        objects[image_id].append(LabelledObject(name, _box_yxyx_px(entry, where), _is_crowd(entry, where), False))
    return Instances(
        path=path,
        category_names=category_names,
        annotations={
            image_id: Annotation(
                str(image_id), path, _side_px(entry, "height"), _side_px(entry, "width"), tuple(objects[image_id])
            )
            for image_id, entry in images.items()
        },
        file_names={image_id: _file_name(entry, f"{path}: image {image_id}") for image_id, entry in images.items()},
    )


def load(path: str | Path) -> dict[str, Any]:
    """Return the contents of an instances JSON without segmentations, which are nine tenths of it.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: `read_foreign_json` refuses it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give COCO's instances_*.json, or one like it")
    return read_foreign_json(path, "give COCO's instances_*.json, or one like it", _UNUSED)


def _by_id(document: Entry, kind: str, needed: tuple[str, ...], path: Path) -> dict[int, Entry]:
    """Return the entries of a list in the document by id, in the list's order."""
    entries = document.get(kind)
    if not isinstance(entries, list) or not (entries or kind == "annotations"):
        raise UserError(f"{path} has no list {kind!r}, or it is empty: give COCO's instances_*.json, or one like it")
    found: dict[int, Entry] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: entry {number} of {kind!r}"
        missing = [key for key in ("id", *needed) if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise UserError(f"{where} has no {', '.join(map(repr, missing))}: add what is missing, or remove the entry")
        if type(entry["id"]) is not int or abs(entry["id"]) > _MOST_ID:
            raise UserError(f"{where}: 'id' is {_quoted(entry['id'])}, not a whole number of at most 64 bits")
        if entry["id"] in found:
            raise UserError(f"{where} has the id {entry['id']}, as one before it: give each its own")
        found[entry["id"]] = entry
    return found


def _category_names(categories: Mapping[int, Entry], path: Path) -> dict[int, str]:
    """Return the category names by ascending id, with runs of white space as one space."""
    found: dict[int, str] = {}
    for category_id, entry in sorted(categories.items()):
        where = f"{path}: category {category_id}"
        name = " ".join(_text(entry, "name", where).split())
        fault = labels.fault_of_name(name)
        if fault:
            raise UserError(f"{where}: 'name' is {_quoted(name)}, which {fault}: give it another name")
        if name.lower() == labels.BACKGROUND:
            raise UserError(f"{where} is {name!r}, which is always class id 0: remove it or give it another name")
        if name in found.values():
            raise UserError(f"{where} is {name!r}, as one before it: remove one, or give it another name")
        found[category_id] = name
    return found


def _text(entry: Entry, key: str, where: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: {key!r} is {_quoted(value)}, not a text")
    return value


def _file_name(entry: Entry, where: str) -> str:
    """Return the path of an image below the folder with the images; a backslash, as Windows writes it, is a slash."""
    name = _text(entry, "file_name", where).replace("\\", "/")
    fault = labels.fault_of_relative_path(name)
    if fault:
        raise UserError(f"{where}: 'file_name' is {_quoted(name)}, which {fault}: write it as below the images")
    return name


def _known_id(entry: Entry, key: str, ids: Container[int], where: str) -> int:
    value = entry[key]
    if type(value) is not int or value not in ids:
        raise UserError(
            f"{where}: {key!r} is {_quoted(value)}, and the file has no such id: correct or remove the annotation"
        )
    return value


def _box_yxyx_px(entry: Entry, where: str) -> tuple[float, float, float, float]:
    """Return the edges of a `bbox`; `examples.make_example` checks whether they are a valid box."""
    box = entry["bbox"]
    usable = isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))
    x, y, width, height = map(float, box) if usable else (math.nan,) * 4
    edges = (y, x, y + height, x + width)
    if not all(map(math.isfinite, edges)):
        raise UserError(f"{where}: 'bbox' is {_quoted(box)}, not four finite numbers x, y, width, height")
    return edges


def _is_crowd(entry: Entry, where: str) -> bool:
    value = entry.get("iscrowd", 0)
    if value not in (0, 1):
        raise UserError(f"{where}: 'iscrowd' is {_quoted(value)}, neither 0 nor 1")
    return bool(value)


def _side_px(entry: Entry, side: str) -> int:
    """Return the height or width of the image in pixels, 0 if it is missing or no positive number."""
    value = entry.get(side, 0)
    return int(value) if _is_finite(value) and value > 0 else 0


def _is_finite(value: Any) -> bool:
    """Tell whether a value is a number that a float can hold: Python's whole numbers have no end."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _quoted(value: Any) -> str:
    return f"'{shortened(value)}'" if isinstance(value, str) else shortened(value)
