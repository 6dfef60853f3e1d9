"""The label format of labelme: a JSON for each labelled picture, beside it, with the points of shapes.

Facts of the format: labelme 5 to 7, labelme/_label_file.py. Points are in pixels from the picture's corner.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from dataset.sources import folders, labels
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split
from dataset.sources.folders import TEST, SourceFlag
from utility.errors import UserError
from utility.files.json_files import read_foreign_json
from utility.files.text_files import shortened

FLAGS: tuple[SourceFlag, ...] = (folders.DIRECTORY_FLAG, folders.LABELS_FLAG)
_SPLIT_FLAGS = {TRAIN: "the pictures in train/", VALIDATION: "a folder valid/"}
_REMEDY = "open the picture in labelme and save it again"
_WITHOUT_AREA = frozenset({"point", "points", "line"})


class _Shape(msgspec.Struct):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None


class _File(msgspec.Struct):
    shapes: list[_Shape]
    imagePath: str = ""  # noqa: N815 (the format's)
    imageHeight: Any = 0  # noqa: N815
    imageWidth: Any = 0  # noqa: N815


def read_data_set(values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
    """Read the JSON files of a folder, as `formats.SourceFormat` says; no picture is opened.

    With folders train/ and valid/ these are the splits, without them the folder itself is the training split. A picture
    without a JSON may not be labelled yet: it is left out, with a note.
    """
    root = Path(values["dataset_directory"])
    if not root.is_dir():
        raise FileNotFoundError(f"--dataset_directory: {root} is not a folder")
    found = folders.split_folders(root) or {TRAIN: root}
    if VALIDATION not in found and TEST in found:
        found[VALIDATION] = found[TEST]
    without_area: list[str] = []
    splits = {
        prefix: _read_split(root, found[prefix], skip_bad_images, without_area)
        for prefix in (TRAIN, VALIDATION)
        if prefix in found
    }
    sources = [source for split in splits.values() for source in split.sources]
    labelled = {source.image_path for source in sources}
    bare = [path for path in folders.pictures_below(root) if path not in labelled]
    notes = []
    if without_area:
        notes.append(f"{len(without_area)} points and lines are no objects, the first in {without_area[0]}")
    if bare:
        notes.append(f"{len(bare)} pictures without a JSON of labelme are left out, the first: {bare[0]}")
    names = folders.class_names(values["labels_file"] or "auto", sources)
    origin = {"dataset_directory": str(root.resolve())}
    return DataSet(names, origin, splits, _SPLIT_FLAGS, pixel_extent=0.0, notes=tuple(notes))


def _read_split(root: Path, folder: Path, skip_bad: bool, without_area: list[str]) -> Split:
    """Read the JSON files of a split, in the order of their paths; shapes that are no boxes go to `without_area`."""
    files = [path for path in folders.files_below(folder) if path.suffix.lower() == ".json"]
    if not files:
        raise FileNotFoundError(f"there is no .json of labelme in {folder}{folders.hint(root, 'labelme')}")
    found: list[tuple[Path, Annotation, Path]] = []
    skipped = []
    for path in files:
        try:
            found.append((path, *read_file(path, without_area)))
        except UserError as error:
            if not skip_bad:
                raise UserError(f"{error} (--skip_bad_images leaves such images out)") from error
            skipped.append(str(error))
    ids = folders.image_ids([picture for _, _, picture in found], root)
    sources = tuple(
        Source(path.relative_to(root).as_posix(), replace(annotation, image_id=image_id), picture)
        for (path, annotation, picture), image_id in zip(found, ids, strict=True)
    )
    name = folder.relative_to(root).as_posix()
    return Split("the folder itself" if name == "." else name, {"pictures": name}, sources, tuple(skipped))


def read_file(path: Path, without_area: list[str]) -> tuple[Annotation, Path]:
    """Return the annotation in a JSON, and its picture: the one that it names, or else the one of its own name."""
    document = read_foreign_json(path, _REMEDY, "imageData")
    try:
        read = msgspec.convert(document, _File)
    except msgspec.ValidationError as error:
        raise UserError(f"{path} is no JSON of labelme: {str(error).replace('`$.', '`')}: {_REMEDY}") from error
    named = path.parent / read.imagePath.replace("\\", "/")
    beside = (other for other in sorted(path.parent.glob(f"{glob.escape(path.stem)}.*")) if folders.is_picture(other))
    picture = named if named.is_file() and folders.is_picture(named) else next(beside, None)
    if picture is None:
        raise UserError(f"{path}: there is no picture {named}, nor one of the JSON's own name beside it")
    objects = []
    for number, shape in enumerate(read.shapes, start=1):
        name, where = shape.label.strip(), f"{path}: shape {number}"
        if fault := labels.fault_of_name(name) if name else "is empty":
            raise UserError(f"{where}: the label '{shortened(name)}' {fault}: give it another")
        if not shape.points or not all(map(math.isfinite, chain(*shape.points))):
            raise UserError(f"{where} ({shortened(name)}) has no points, or one that is no number: {_REMEDY}")
        if shape.shape_type in _WITHOUT_AREA:
            without_area.append(str(path))
            continue
        xs, ys = zip(*shape.points, strict=True)
        if shape.shape_type == "circle":  # its centre and a point on it
            radius = math.dist(shape.points[0], shape.points[-1])
            xs, ys = (xs[0] - radius, xs[0] + radius), (ys[0] - radius, ys[0] + radius)
        objects.append(LabelledObject(name, (min(ys), min(xs), max(ys), max(xs)), difficult=False, truncated=False))
    height, width = (
        int(side) if isinstance(side, int) and 0 < side < 2**31 else 0 for side in (read.imageHeight, read.imageWidth)
    )
    return Annotation(path.stem, path, height, width, tuple(objects)), picture
