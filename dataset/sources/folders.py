"""What label formats share: flags, the picture files and splits of a folder, and numbers in a text."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dataset.sources.annotations import TRAIN, VALIDATION
from utility.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""The extensions, in any case, by which picture files are found."""

TEST = "test"  # a split that stands in for validation where there is none
_SPLIT_NAMES = {
    TRAIN: ("train", "obj_train_data"),
    VALIDATION: ("val", "valid", "validation", "obj_valid_data", "obj_val_data", "obj_validation_data"),
    TEST: ("test", "obj_test_data"),
}  # as Ultralytics, Roboflow, CVAT and datumaro write them
# with copies of pictures: of macOS, Synology and QNAP; those that begin with a dot are not looked into either
_SERVICE_FOLDERS = frozenset({"__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "@__thumb"})


class SourceFlag(NamedTuple):
    """A flag of one label format; it has no effect with the others, and is refused there."""

    name: str
    text: str
    default: str | None = None
    is_list: bool = False
    must_be: str = ""  # what to give, where the format cannot do without the flag


DIRECTORY_FLAG = SourceFlag(
    "dataset_directory",
    "folder of the data set: VOCROOT, which holds VOC2007, VOC2012, ...; or one with pictures and their XML, or "
    "train/ and valid/ with them; of YOLO the folder of data.yaml, or of images/ and labels/",
    must_be="VOCROOT, the folder that holds VOC2007, ..., or a folder with pictures and their labels",
)
LABELS_FLAG = SourceFlag(
    "labels_file",
    "of VOC: class names, one a line; 'auto' collects them; default: VOC's 20; of YOLO: default: those of the data set",
)


def finite_number(text: str) -> float | None:
    """Return the number that a text writes in ASCII digits, None where it writes none, or one that is not finite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and text.isascii() and "_" not in text else None


def is_picture(path: Path) -> bool:
    """Tell whether a file is a picture by its name; hidden ones, such as macOS leaves in archives, are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def files_below(folder: Path) -> list[Path]:
    """Return the files in a folder and in its folders, sorted by their path; not those of hidden folders."""
    found = []
    for place, names, files in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".") and name.lower() not in _SERVICE_FOLDERS]
        found += [Path(place, name) for name in files]
    return sorted(found, key=lambda path: path.parts)


def pictures_below(folder: Path) -> list[Path]:
    """Return the picture files in a folder and in its folders, sorted by their path."""
    return [path for path in files_below(folder) if is_picture(path)]


def image_ids(paths: Sequence[Path], root: Path) -> list[str]:
    """Return an id for each picture: its name without extension, with its folders below `root` where names repeat.

    Raises:
        UserError: two pictures still have the same id.
    """
    counts = Counter(path.stem for path in paths)
    found: dict[str, Path] = {}
    for path in paths:
        below = path.relative_to(root) if path.is_relative_to(root) else Path(*path.parts[1:])
        image_id = path.stem if counts[path.stem] == 1 else "_".join(below.with_suffix("").parts)
        if image_id in found:
            raise UserError(f"{found[image_id]} and {path} have the same image id: remove one, or rename it")
        found[image_id] = path
    return [*found]


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the splits in a folder, by TRAIN, VALIDATION and TEST, whichever are there."""
    folders = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    found = {split: [folders[name] for name in names if name in folders] for split, names in _SPLIT_NAMES.items()}
    return {split: paths[0] for split, paths in found.items() if paths}


def hint(root: Path, asked: str) -> str:
    """Return "; it looks like ..." where a folder looks like another label format than the one asked for, else ""."""
    near = [path for pattern in ("*", "*/*", "*/*/*") for path in sorted(root.glob(pattern))]
    for path in near if asked != "voc" else []:
        if path.suffix.lower() == ".xml":
            return f"; there is {path}, so it may be VOC's: give --format=voc"
    for path in near if asked != "coco" else []:
        name = path.name.lower()
        if name.endswith(".json") and any(word in name for word in ("annotation", "instances", "coco")):
            images = path.parent if any(map(is_picture, path.parent.iterdir())) else "FOLDER"
            flags = f"--annotations={path} --images={images}"
            return f"; there is {path}, so it may be COCO's: give --format=coco {flags}"
    for path in near if asked != "yolo" else []:
        if path.name.lower() in ("data.yaml", "data.yml", "classes.txt", "obj.names", "labels"):
            return f"; there is {path}, so it may be YOLO's: give --format=yolo"
    return ""
