"""The label format of COCO: instances JSON files, and the folders with their images.

A box is x, y, width, height, measured in pixels from the image's corner: its edges are at x and x + width, and a box
around the whole image is 0, 0, image width, image height. Records hold the edges divided by the image's size, so
multiplying by the size gives COCO's edges again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset.sources import labels
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split
from utility.files import text_files
from utility.flags.data import SourceFlag

FLAGS: tuple[SourceFlag, ...] = (
    SourceFlag("annotations", "of COCO: instances JSON of the training images"),
    SourceFlag("images", "of COCO: folder with the training images"),
    SourceFlag("validation_annotations", "of COCO: instances JSON of the validation images"),
    SourceFlag("validation_images", "of COCO: folder with the validation images"),
)
_SPLIT_FLAGS = {TRAIN: "--annotations", VALIDATION: "--validation_annotations"}
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
        ValueError: no JSON file, one without folder, a bad one, different categories in two, or missing images.
    """
    folders, read = {}, {}
    for prefix, instances, folder, flags in (
        (TRAIN, annotations, images, _PAIRS[0]),
        (VALIDATION, validation_annotations, validation_images, _PAIRS[1]),
    ):
        if instances and folder:
            read[prefix], folders[prefix] = read_instances(instances), Path(folder)
        elif instances or folder:
            raise ValueError(f"{flags} go together: one is the JSON file, the other the folder with its images")
    if not read:
        raise ValueError(f"no images to convert: give {_PAIRS[0]}, or {_PAIRS[1]}, or all four")
    first, *others = read.values()
    for other in others:
        _check_same_categories(first, other)
    splits = {prefix: find_images(read[prefix], folder, skip_missing) for prefix, folder in folders.items()}
    names, origin = tuple(first.category_names.values()), {"category_ids": list(first.category_names)}
    return DataSet(names, origin, splits, _SPLIT_FLAGS)


def _check_same_categories(one: Instances, other: Instances) -> None:
    different = one.category_names.items() ^ other.category_names.items()
    if different:
        category_id, name = min(different)
        raise ValueError(
            f"{one.path} and {other.path} have different categories: id {category_id}, {name!r}, is not the same in"
            " both; make the lists equal"
        )


def find_images(instances: Instances, folder: str | Path, skip_missing: bool) -> Split:
    """Return the images of an instances JSON, in its order, as a split.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: an image is missing; with `skip_missing` it is left out.
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
        raise ValueError(
            f"{missing[0]} ({len(missing)} of {len(instances.annotations)} are missing; --skip_bad_images leaves"
            " such images out)"
        )
    origin = {"annotations": str(instances.path.resolve()), "image_directory": str(folder.resolve())}
    return Split(instances.path.name, origin, tuple(sources), tuple(missing))


def read_instances(path: str | Path) -> Instances:
    """Read an instances JSON; objects with `iscrowd` are difficult, and segmentations are ignored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON, or has a missing list or key, a repeated or non-integer id, an annotation of
            an unknown image or category, a bad box, or a bad class name.
    """
    path, document = Path(path), load(path)
    categories = _by_id(document, "categories", ("name",), path)
    images = _by_id(document, "images", ("file_name",), path)
    objects: dict[int, list[LabelledObject]] = {image_id: [] for image_id in images}
    names = _category_names(categories, path)
    for number, entry in _by_id(document, "annotations", ("image_id", "category_id", "bbox"), path).items():
        where = f"{path}: annotation {number}"
        image_id = _known_id(entry, "image_id", images, where)
        name = names[_known_id(entry, "category_id", names, where)]
        objects[image_id].append(LabelledObject(name, _box_yxyx_px(entry, where), _is_crowd(entry, where), False))
    return Instances(
        path=path,
        category_names=names,
        annotations={
            image_id: Annotation(
                str(image_id), path, _side_px(entry, "height"), _side_px(entry, "width"), tuple(objects[image_id])
            )
            for image_id, entry in images.items()
        },
        file_names={
            image_id: _text(entry, "file_name", f"{path}: image {image_id}") for image_id, entry in images.items()
        },
    )


def load(path: str | Path) -> dict[str, Any]:
    """Return the contents of an instances JSON without segmentations, which are nine tenths of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON, or no JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give COCO's instances_*.json, or one like it")
    try:
        document = json.loads(text_files.read_utf8(path), object_hook=_without_segmentation)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): copy or export it again") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds no JSON object with 'images', 'annotations' and 'categories'")
    return document


def _without_segmentation(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def _by_id(document: Entry, kind: str, needed: tuple[str, ...], path: Path) -> dict[int, Entry]:
    """Return the entries of a list in the document by id, in the list's order."""
    entries = document.get(kind)
    if not isinstance(entries, list) or not (entries or kind == "annotations"):
        raise ValueError(f"{path} has no list {kind!r}, or it is empty: give COCO's instances_*.json, or one like it")
    found: dict[int, Entry] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: entry {number} of {kind!r}"
        missing = [key for key in ("id", *needed) if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise ValueError(
                f"{where} has no {', '.join(map(repr, missing))}: add what is missing, or remove the entry"
            )
        if type(entry["id"]) is not int:
            raise ValueError(f"{where}: 'id' is {entry['id']!r}, not a whole number")
        if entry["id"] in found:
            raise ValueError(f"{where} has the id {entry['id']}, as one before it: give each its own")
        found[entry["id"]] = entry
    return found


def _category_names(categories: Mapping[int, Entry], path: Path) -> dict[int, str]:
    """Return the category names by ascending id, with runs of white space as one space."""
    names: dict[int, str] = {}
    for category_id, entry in sorted(categories.items()):
        where = f"{path}: category {category_id}"
        name = " ".join(_text(entry, "name", where).split())
        if name.lower() == labels.BACKGROUND:
            raise ValueError(f"{where} is {name!r}, which is always class id 0: remove it or give it another name")
        if name in names.values():
            raise ValueError(f"{where} is {name!r}, as one before it: remove one, or give it another name")
        names[category_id] = name
    return names


def _text(entry: Entry, key: str, where: str) -> str:
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {key!r} is {value!r}, not a text")
    return value


def _known_id(entry: Entry, key: str, ids: Container[int], where: str) -> int:
    value = entry[key]
    if type(value) is not int or value not in ids:
        raise ValueError(
            f"{where}: {key!r} is {value!r}, and the file has no such id: correct or remove the annotation"
        )
    return value


def _box_yxyx_px(entry: Entry, where: str) -> tuple[float, float, float, float]:
    """Return the edges of a `bbox`; `examples.make_example` checks whether they are a valid box."""
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        raise ValueError(f"{where}: 'bbox' is {box!r}, not four finite numbers x, y, width, height")
    x, y, width, height = map(float, box)
    return y, x, y + height, x + width


def _is_crowd(entry: Entry, where: str) -> bool:
    value = entry.get("iscrowd", 0)
    if value not in (0, 1):
        raise ValueError(f"{where}: 'iscrowd' is {value!r}, neither 0 nor 1")
    return bool(value)


def _side_px(entry: Entry, side: str) -> int:
    """Return the height or width of the image in pixels, 0 if it is missing or no positive number."""
    value = entry.get(side, 0)
    return int(value) if _is_finite(value) and value > 0 else 0


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
