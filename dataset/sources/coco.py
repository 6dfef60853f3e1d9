"""The label format of COCO: instances JSON files, and the folders with their images.

A box is x, y, width, height, measured in pixels from the image's corner: its edges are at x and x + width, and a box
around the whole image is 0, 0, image width, image height. Records hold the edges divided by the image's size, so
multiplying by the size gives COCO's edges again.
"""

from __future__ import annotations

import math
import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

import msgspec

from dataset.sources import folders, labels
from dataset.sources.annotations import (
    Annotation,
    DataSet,
    LabelledObject,
    Source,
    Split,
    around_turned,
)
from dataset.sources.folders import SourceFlag
from utility.errors import UserError
from utility.files.json_files import read_foreign_json
from utility.files.text_files import shortened

FLAGS: tuple[SourceFlag, ...] = folders.PAIR_FLAGS
_REMEDY = "give COCO's instances_*.json, or one like it"
_FAR = 1.05  # of the image's side
_LEAST_AS_CORNERS = 0.95  # of the boxes; in COCO, few have a width above x and a height above y
_LEAST_BEYOND = 0.25  # of the boxes; of corners read as sizes, about two thirds reach beyond the image


@dataclass(frozen=True)
class Instances:
    """An instances JSON: category names by id, ascending; annotations and file names by image id.

    Each image has an annotation, possibly without objects; its `image_id` is the id in decimal digits.
    """

    path: Path
    category_names: dict[int, str]
    annotations: dict[int, Annotation]
    file_names: dict[int, str]


class _Category(msgspec.Struct):
    id: int
    name: str


class _Image(msgspec.Struct):
    id: int
    file_name: str
    height: Any = 0
    width: Any = 0


class _Object(msgspec.Struct):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: bool | float = 0
    attributes: Any = None


_Entry = TypeVar("_Entry", _Category, _Image, _Object)


def read_data_set(values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
    """Read the training set, the validation set, or both, as `formats.SourceFormat` says; no picture is opened.

    Class ids are 1 to C in the order of category ids; image ids in the records are the `id`s of the JSON.
    """
    pairs = folders.pairs(values)
    read = {prefix: read_instances(file) for prefix, (file, _) in pairs.items()}
    first, last = next(iter(read.values())), next(reversed(read.values()))
    if different := first.category_names.items() ^ last.category_names.items():
        category_id, name = min(different)
        raise UserError(
            f"{first.path} and {last.path} have different categories: id {category_id}, {name!r}, is not the same in "
            "both; make the lists equal"
        )
    splits = {
        prefix: _find_images(instances, Path(pairs[prefix][1]), skip_bad_images) for prefix, instances in read.items()
    }
    names, origin = tuple(first.category_names.values()), {"category_ids": list(first.category_names)}
    remarks = [corners_for_sizes(str(each.path), each.annotations.values()) for each in read.values()]
    return DataSet(names, origin, splits, folders.FLAG_OF_SPLIT, pixel_extent=0.0, remarks=tuple(chain(*remarks)))


def _find_images(instances: Instances, folder: Path, skip_missing: bool) -> Split:
    """Return the images of an instances JSON, in its order, as a split; missing ones are an error or skipped."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: give the one with the images of {instances.path}")
    ids_of: dict[Path, list[int]] = defaultdict(list)
    for image_id, name in instances.file_names.items():
        ids_of[_picture(folder, name, f"{instances.path}: image {image_id}")].append(image_id)
    sources, missing = [], []
    for image_path, ids in ids_of.items():
        if len(ids) > 1:  # not one picture with the objects of all: frames of several videos may share a name
            several = ", ".join(map(str, ids[:5]))
            missing.append(
                f"{image_path} is the picture of {len(ids)} images in {instances.path}, with the ids {several}: each "
                "would teach the others' objects as background; give a picture one id, or each its own file"
            )
        elif image_path.is_file():
            (image_id,) = ids
            sources.append(
                Source(f"{instances.path.name}, image {image_id}", instances.annotations[image_id], image_path)
            )
        else:
            missing.append(f"{image_path}: there is no such file, the picture of image {ids[0]} in {instances.path}")
    if missing and not skip_missing:
        raise UserError(
            f"{missing[0]} ({len(missing)} of {len(ids_of)} pictures are missing or ambiguous; --skip_bad_images leaves"
            " such images out)"
        )
    origin = {"annotations": str(instances.path.resolve()), "image_directory": str(folder.resolve())}
    return Split(instances.path.name, origin, tuple(sources), tuple(missing))


def read_instances(path: str | Path) -> Instances:
    """Read an instances JSON; objects with `iscrowd` are difficult, and segmentations are ignored.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file is not JSON, or has a missing list or key, a bad or repeated id, an annotation of an unknown
            image or category, a bad box or class name, or a file name that is not below the folder with the images.
    """
    path, document = Path(path), load(path)
    # runs of white space in a name are one space
    names = {each.id: " ".join(each.name.split()) for each in _entries(path, document, "categories", _Category)}
    names = dict(sorted(names.items()))
    labels.check_names([*names.values()], f"{path}: 'categories' by id", "name")
    images = {each.id: each for each in _entries(path, document, "images", _Image)}
    objects: dict[int, list[LabelledObject]] = {image_id: [] for image_id in images}
    for each in _entries(path, document, "annotations", _Object):
        for key, value, known in (("image_id", each.image_id, images), ("category_id", each.category_id, names)):
            if value not in known:
                raise UserError(
                    f"{path}: annotation {each.id}: {key!r} is {shortened(value)}, and the file has no such id: "
                    "correct or remove the annotation"
                )
        x, y, width, height = each.bbox
        edges = (y, x, y + height, x + width)  # whether they are a box with an area is checked with the picture
        if not all(map(math.isfinite, edges)):
            raise UserError(
                f"{path}: annotation {each.id}: 'bbox' is {shortened(list(each.bbox))}, not four finite numbers "
                "x, y, width, height: correct or remove the annotation"
            )
        if each.iscrowd not in (0, 1):
            raise UserError(f"{path}: annotation {each.id}: 'iscrowd' is {each.iscrowd:g}, neither 0 nor 1")
        rotation = each.attributes.get("rotation") if isinstance(each.attributes, dict) else None
        degrees = rotation if isinstance(rotation, (int, float)) and math.isfinite(rotation) else 0.0
        objects[each.image_id].append(
            LabelledObject(
                names[each.category_id],
                around_turned(edges, degrees) if degrees else edges,
                bool(each.iscrowd),
                truncated=False,
                rotated=bool(degrees),
            )
        )
    annotations = {
        image_id: Annotation(str(image_id), path, _side_px(each.height), _side_px(each.width), tuple(objects[image_id]))
        for image_id, each in images.items()
    }
    return Instances(path, names, annotations, {image_id: each.file_name for image_id, each in images.items()})


def load(path: str | Path) -> dict[str, Any]:
    """Return the content of an instances JSON without segmentations, which are nine tenths of it.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: `read_foreign_json` refuses it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: {_REMEDY}")
    return read_foreign_json(path, _REMEDY, "segmentation")


def _entries(path: Path, document: Mapping[str, Any], kind: str, form: type[_Entry]) -> Iterator[_Entry]:
    """Yield the entries of a list in the document, each with the keys that are used, and an id of its own."""
    entries = document.get(kind)
    if not isinstance(entries, list) or not (entries or form is _Object):
        raise UserError(f"{path} has no list {kind!r}, or it is empty: {_REMEDY}")
    seen: set[int] = set()
    for number, entry in enumerate(entries, start=1):
        try:
            found = msgspec.convert(entry, form)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the second: half of a pair such as \ud800
            used = {key: entry.get(key) for key in form.__struct_fields__} if isinstance(entry, dict) else entry
            reason = str(error).replace("`$.", "`")  # msgspec names a key as in "at `$.bbox[3]`"
            raise UserError(
                f"{path}: entry {number} of {kind!r} is {shortened(used)}: {reason}: correct it, or remove the entry"
            ) from error
        if found.id in seen:
            raise UserError(f"{path}: entry {number} of {kind!r} has the id {found.id}, as one before it: change it")
        seen.add(found.id)
        yield found


def _picture(folder: Path, file_name: str, where: str) -> Path:
    """Return the path of an image below the folder with the images; a backslash, as Windows writes it, is a slash.

    A name that leads elsewhere, as Label Studio writes it, is that of a picture in the folder itself, or refused.
    """
    name = file_name.replace("\\", "/")
    fault = labels.fault_of_characters(name)
    if name.startswith("/") or PureWindowsPath(name).is_absolute():
        fault = fault or "is absolute"
    elif posixpath.normpath(name).split("/")[0] == "..":
        fault = fault or "leads out of the folder"
    beside = folder / posixpath.basename(name)
    if fault and not (posixpath.basename(name) and labels.fault_of_characters(name) == "" and beside.is_file()):
        raise UserError(
            f"{where}: 'file_name' is '{shortened(name)}', which {fault}, and in the folder itself there is no such "
            "picture: write it as below the images"
        )
    return beside if fault else folder / posixpath.normpath(name)


def _side_px(value: Any) -> int:
    """Return the height or width of an image in pixels, 0 if it is missing or no positive number."""
    return int(value) if isinstance(value, (int, float)) and 0 < value < 2**31 else 0


def corners_for_sizes(where: str, annotations: Collection[Annotation]) -> tuple[str, ...]:
    """Return a remark, in a tuple, if boxes read as x, y, width, height look like x1, y1, x2, y2; else ().

    So it looks where nearly all boxes fit into their image as corners, and many reach far beyond it as x + width and
    y + height. Images whose size the annotation does not give are left out.
    """
    count = fitting = beyond = 0
    for each in annotations:
        if each.height and each.width:
            for item in each.objects:
                ymin, xmin, ymax, xmax = item.box_yxyx_px
                count += 1
                fitting += ymin <= ymax - ymin <= each.height and xmin <= xmax - xmin <= each.width
                beyond += ymax > _FAR * each.height or xmax > _FAR * each.width
    if not count or fitting < _LEAST_AS_CORNERS * count or beyond < _LEAST_BEYOND * count:
        return ()
    return (
        f"{where}: the boxes look like x1, y1, x2, y2, but COCO's are x, y, width, height: read so, {beyond} of "
        f"{count} reach far beyond their image, and as corners {fitting} fit; if so, write x2 - x1 and y2 - y1",
    )
