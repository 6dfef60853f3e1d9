"""The label format of Open Images: a CSV with a line for each box, and the folder with its pictures, ImageID.jpg.

Its columns: storage.googleapis.com/openimages/web/download_v7.html. Boxes are edges in fractions of the picture.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dataset.sources import folders, labels, pictures
from dataset.sources.annotations import Annotation, DataSet, LabelledObject, Source, Split
from dataset.sources.folders import SourceFlag, finite_number
from utility.errors import UserError
from utility.files.text_files import read_utf8, shortened

FLAGS: tuple[SourceFlag, ...] = (*folders.PAIR_FLAGS, folders.LABELS_FLAG)
_SIDES = ("YMin", "XMin", "YMax", "XMax")
_COLUMNS = ("ImageID", "LabelName", *_SIDES)


def read_data_set(values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
    """Read the training set, the validation set, or both, as `formats.SourceFormat` says.

    The CSVs list the boxes of all pictures of Open Images: those whose picture is not in the folder are left out, and
    so are pictures without a box, with notes. Groups of objects (IsGroupOf) are difficult. Labels such as /m/01yrx have
    the names that a CSV of class descriptions gives them, which lies in a folder of the annotations.
    """
    notes: list[str] = []
    splits = {
        prefix: _read_split(Path(file), Path(folder), skip_bad_images, notes)
        for prefix, (file, folder) in folders.pairs(values).items()
    }
    sources = [source for split in splits.values() for source in split.sources]
    names = folders.class_names(values["labels_file"] or "auto", sources)
    return DataSet(names, {}, splits, folders.FLAG_OF_SPLIT, pixel_extent=0.0, notes=tuple(notes))


def _read_split(path: Path, folder: Path, skip_bad: bool, notes: list[str]) -> Split:
    """Read the boxes of the pictures that there are in a folder."""
    for place, is_there in ((path, path.is_file()), (folder, folder.is_dir())):
        if not is_there:
            raise FileNotFoundError(f"{place} does not exist: give the CSV of boxes, and the folder with its pictures")
    picture_of = {picture.stem: picture for picture in folders.pictures_below(folder)}
    if not picture_of:
        raise FileNotFoundError(f"there is no picture in {folder}")
    name_of = _descriptions(path)
    rows: dict[str, list[tuple[int, dict[str, str]]]] = {}
    missing = set[str]()
    for line, row in _rows(path):
        image_id = row["ImageID"]
        if folders.is_picture(Path(image_id)):  # globox writes the file's name
            image_id = Path(image_id).stem
        if image_id in picture_of:
            rows.setdefault(image_id, []).append((line, row))
        else:
            missing.add(image_id)
    if not rows:
        raise UserError(f"none of the pictures in {folder} is in {path}: they are called ImageID.jpg")
    sources, skipped = [], []
    for image_id, found in rows.items():
        try:
            height, width = pictures.upright_size(picture_of[image_id])
            objects = tuple(_read_row(f"{path}, line {line}", row, name_of, (height, width)) for line, row in found)
        except UserError as error:
            if not skip_bad:
                raise UserError(f"{error} (--skip_bad_images leaves such images out)") from error
            skipped.append(str(error))
        else:
            annotation = Annotation(image_id, path, height, width, objects)
            sources.append(Source(f"{path.name}, image {image_id}", annotation, picture_of[image_id]))
    if missing:
        notes.append(f"{len(missing)} images of {path.name} have no picture in {folder}, and are left out")
    if bare := [picture for stem, picture in picture_of.items() if stem not in rows]:
        notes.append(f"{len(bare)} pictures without a box in {path.name} are left out, the first: {bare[0]}")
    origin = {"annotations": str(path.resolve()), "image_directory": str(folder.resolve())}
    return Split(path.name, origin, tuple(sources), tuple(skipped))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a CSV of boxes, by column, with their numbers; a UserError if it is none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            if lacking := [column for column in _COLUMNS if column not in (reader.fieldnames or ())]:
                raise UserError(f"{path} has no column {lacking[0]}: give a CSV of boxes of Open Images")
            for row in reader:
                yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV in UTF-8: {error}: download or export it again") from error


def _read_row(where: str, row: dict[str, str], name_of: Mapping[str, str], size: tuple[int, int]) -> LabelledObject:
    name = name_of.get(row["LabelName"], row["LabelName"]).strip()
    if not name or labels.fault_of_name(name):
        raise UserError(f"{where}: the label is '{shortened(name)}', which cannot be a class name")
    sides = [finite_number(row[side]) for side in _SIDES]
    if any(side is None or not 0 <= side <= 1 for side in sides):
        told = ", ".join(f"{side} {row[side]}" for side in _SIDES)
        raise UserError(f"{where}: {shortened(told)}: these must be numbers from 0 to 1")
    ymin, xmin, ymax, xmax = (side * pixels for side, pixels in zip(sides, size * 2, strict=True) if side is not None)
    is_group, is_truncated = ((row.get(column) or "0").strip() == "1" for column in ("IsGroupOf", "IsTruncated"))
    return LabelledObject(name, (ymin, xmin, ymax, xmax), difficult=is_group, truncated=is_truncated)


def _descriptions(path: Path) -> dict[str, str]:
    """Return label -> name of the class descriptions: two columns, in a .csv called class... or ...classes."""
    places = [path.parent, path.parent / "metadata", path.parent.parent / "metadata"]
    for file in (file for place in places if place.is_dir() for file in sorted(place.glob("*.csv"))):
        if "class" in file.name.lower():
            rows = [row for row in csv.reader(read_utf8(file).splitlines()) if len(row) == 2]
            return {label: name for label, name in rows if label.startswith("/")}
    return {}
