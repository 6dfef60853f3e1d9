"""What label formats share: flags, the picture files and splits of a folder, and numbers in a text."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dataset.sources import labels
from dataset.sources.annotations import TRAIN, VALIDATION, Source
from utility.errors import UserError
from utility.files.tfrecord import is_record_file

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


_MOST_UNKNOWN = 20  # class names in a message
_LOOKED_AT = 100_000  # bytes of a file
_NOT_READ = "which is not read here:"


class SourceFlag(NamedTuple):
    """A flag of one label format; it has no effect with the others, and is refused there."""

    name: str
    text: str
    default: str | None = None
    is_list: bool = False
    must_be: str = ""  # what to give, where the format cannot do without the flag


DIRECTORY_FLAG = SourceFlag(
    "dataset_directory",
    "folder of the data set: VOCROOT, which holds VOC2007, VOC2012, ...; or one with pictures and their labels, or "
    "train/ and valid/ with them; of YOLO the folder of data.yaml, or of images/ and labels/",
    must_be="VOCROOT, the folder that holds VOC2007, ..., or a folder with pictures and their labels",
)
LABELS_FLAG = SourceFlag(
    "labels_file",
    "class names, one a line; 'auto' collects them; default: of VOC its 20, of other formats those of the data set",
)


PAIR_FLAGS = (
    SourceFlag("annotations", "of COCO: instances JSON of the training images; of Open Images: CSV of their boxes"),
    SourceFlag("images", "of COCO and Open Images: folder with the training images"),
    SourceFlag("validation_annotations", "of COCO and Open Images: the same of the validation images"),
    SourceFlag("validation_images", "of COCO and Open Images: folder with the validation images"),
)
FLAG_OF_SPLIT = {TRAIN: "--annotations", VALIDATION: "--validation_annotations"}


def pairs(values: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the file of annotations and the folder with the images of each split, as PAIR_FLAGS give them.

    A UserError if one of a pair is missing, or both pairs are.
    """
    found = {}
    for prefix, (file, folder) in {
        TRAIN: ("annotations", "images"),
        VALIDATION: ("validation_annotations", "validation_images"),
    }.items():
        if values[file] and values[folder]:
            found[prefix] = (values[file], values[folder])
        elif values[file] or values[folder]:
            raise UserError(f"--{file} and --{folder} go together: the file, and the folder with its images")
    if not found:
        train, validation = ("--annotations and --images", "--validation_annotations and --validation_images")
        raise UserError(f"no images to convert: give {train}, or {validation}, or all four")
    return found


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


def class_names(labels_file: str | None, sources: Sequence[Source]) -> tuple[str, ...]:
    """Return the class names: of VOC for None, of the annotations, sorted, for 'auto', or else of a file."""
    counts = Counter(labelled.name for source in sources for labelled in source.annotation.objects)
    if labels_file == "auto":
        if not counts:
            raise UserError("--labels_file=auto finds no class: there is no object in any annotation")
        return tuple(sorted(counts))
    class_names = labels.read_labels(labels_file) if labels_file else labels.VOC_CLASSES
    if unknown := sorted(counts.keys() - set(class_names)):
        told = ", ".join(f"{name} ({counts[name]})" for name in unknown[:_MOST_UNKNOWN])
        more = f" and {len(unknown) - _MOST_UNKNOWN} more" if len(unknown) > _MOST_UNKNOWN else ""
        whose = labels_file or "the 20 VOC classes, the default"
        raise UserError(
            f"class names in the annotations, with counts, that are not in {whose}: {told}{more}; "
            "take all names with --labels_file=auto, or give --labels_file a file with one name a line"
        )
    return class_names


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the splits in a folder, by TRAIN, VALIDATION and TEST, whichever are there."""
    folders = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    found = {split: [folders[name] for name in names if name in folders] for split, names in _SPLIT_NAMES.items()}
    return {split: paths[0] for split, paths in found.items() if paths}


# words by which the JSON of other tools is known, and what is said of it
_JSON = {
    ("shapes", "imagePath"): ("labelme", "labelme's: give --format=labelme"),
    ("shape_attributes", "region_attributes"): (
        "",
        f"the VGG Image Annotator's, {_NOT_READ} globox converts it (-f via-json -F coco --coco_auto_ids)",
    ),
    ("coordinates", "label"): ("", f"CreateML's, {_NOT_READ} export COCO, YOLO or Pascal VOC in its place"),
    ("result", "from_name"): ("", f"Label Studio's own, {_NOT_READ} export YOLO, COCO or Pascal VOC in its place"),
}


def hint(root: Path, asked: str) -> str:
    """Return "; it looks like ..." where a folder looks like another label format than the one asked for, else ""."""
    near = [path for pattern in ("*", "*/*", "*/*/*") for path in sorted(root.glob(pattern))]
    for path in near:
        name, suffix = path.name.lower(), path.suffix.lower()
        said = ""
        if suffix == ".xml" and asked != "voc":
            said = "VOC's: give --format=voc"
        elif suffix == ".json":
            with path.open("rb") as file:
                start = file.read(_LOOKED_AT).decode(errors="replace")
            known = (other for words, other in _JSON.items() if all(word in start for word in words))
            format_name, said = next(known, ("coco", ""))
            if not said and any(word in name for word in ("annotation", "instances", "coco")):
                images = path.parent if any(map(is_picture, path.parent.iterdir())) else "FOLDER"
                said = f"COCO's: give --format=coco --annotations={path} --images={images}"
            said = said if format_name != asked else ""
        elif name in ("data.yaml", "data.yml", "classes.txt", "obj.names", "labels") and asked != "yolo":
            said = "YOLO's: give --format=yolo"
        elif is_record_file(path.name) and asked != "odapi":
            said = "records of TensorFlow's Object Detection API (Roboflow's TFRecord): give --format=odapi"
        elif suffix == ".csv" and asked != "openimages" and _first_line(path).startswith("ImageID,"):
            said = f"Open Images': give --format=openimages --annotations={path} --images=FOLDER"
        elif suffix == ".txt" and len(_first_line(path).split()) in (15, 16):
            said = f"KITTI's, {_NOT_READ} datumaro[cli] converts it (datum convert -if kitti -f coco ...)"
        if said:
            return f"; there is {path}, so it may be {said}"
    return ""


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(_LOOKED_AT).decode(errors="replace")
