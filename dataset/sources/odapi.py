"""The records of TensorFlow's Object Detection API, which Roboflow exports as "TFRecord", as a label format.

Their features and label maps: create_pascal_tf_record.py and string_int_label_map.proto of that project. They differ
from this project's in names and in that a label map names the classes. Boxes are edges in fractions of the picture.
"""

from __future__ import annotations

import atexit
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf.message import DecodeError

from dataset.sources import folders, labels, pictures
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split
from dataset.sources.folders import TEST, SourceFlag
from utility.errors import UserError
from utility.files import protobuf
from utility.files.text_files import read_utf8, shortened
from utility.files.tfrecord import is_record_file, record_spans

FLAGS: tuple[SourceFlag, ...] = (folders.DIRECTORY_FLAG, folders.LABELS_FLAG)
_SPLIT_FLAGS = {TRAIN: "a folder train/, or files train*", VALIDATION: "a folder valid/, or files val*"}
_ITEM = re.compile(r"item\s*\{(.*?)\}", re.DOTALL)
_MESSAGES = protobuf.message_classes(
    "odapi",
    {
        "Example": [("features", 1, "Features")],
        "Features": [("feature", 1, "Entry")],
        "Entry": [("key", 1, protobuf.BYTES), ("value", 2, "Feature")],
        "Feature": [("bytes", 1, "Bytes"), ("floats", 2, "Floats"), ("ints", 3, "Ints")],
        "Bytes": [("value", 1, protobuf.BYTES)],
        "Floats": [("value", 1, protobuf.FLOAT)],
        "Ints": [("value", 1, protobuf.INT64)],
    },
)


def read_data_set(values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
    """Read the record files of a folder, as `formats.SourceFormat` says.

    Their pictures are written to a temporary folder, which is removed when the process ends. Splits are the folders
    train/ and valid/, or else the files whose names begin so; other files are for training. Class ids are 1 to C in the
    order of the ids in the label map, which is the .pbtxt beside the records.
    """
    root = Path(values["dataset_directory"])
    if not root.is_dir():
        raise FileNotFoundError(f"--dataset_directory: {root} is not a folder")
    files: dict[str, list[Path]] = {}
    for prefix, folder in (folders.split_folders(root) or {TRAIN: root}).items():
        for path in folders.files_below(folder):
            if is_record_file(path.name):
                start = next((s for s in (VALIDATION, TEST) if path.name.lower().startswith(s)), prefix)
                files.setdefault(start if folder == root else prefix, []).append(path)
    if not files:
        raise FileNotFoundError(f"there is no .tfrecord or .record in {root}{folders.hint(root, 'odapi')}")
    if VALIDATION not in files and TEST in files:
        files[VALIDATION] = files[TEST]
    name_of = _label_map(root)
    folder = Path(tempfile.mkdtemp(prefix="ssd_pictures_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    splits = {
        prefix: _read_split(root, files[prefix], name_of, folder / prefix, skip_bad_images)
        for prefix in (TRAIN, VALIDATION)
        if prefix in files
    }
    sources = [source for split in splits.values() for source in split.sources]
    if values["labels_file"] or not name_of:
        names = folders.class_names(values["labels_file"] or "auto", sources)
    else:
        names = tuple(name_of[number] for number in sorted(name_of))
    return DataSet(names, {"dataset_directory": str(root.resolve())}, splits, _SPLIT_FLAGS, pixel_extent=0.0)


def _label_map(root: Path) -> dict[int, str]:
    """Return the class names by id of the label maps in a folder, {} without one; a UserError if two differ."""
    found: dict[int, str] = {}
    for path in folders.files_below(root):
        if path.suffix.lower() == ".pbtxt":
            named = {}
            for item in _ITEM.findall(read_utf8(path)):
                number, name = re.search(r"\bid\s*:\s*(\d+)", item), re.search(r"\bname\s*:\s*([\"'])(.*?)\1", item)
                if not number or not name:
                    raise UserError(f"{path}: an item lacks an id or a name: item {{{shortened(item)}}}")
                named[int(number[1])] = name[2].strip()
            if found and named != found:
                raise UserError(f"the label maps in {root} differ, such as {path}: leave one of them")
            labels.check_names([*named.values()], str(path), "item")
            found = named
    return found


def _read_split(root: Path, files: list[Path], name_of: Mapping[int, str], folder: Path, skip_bad: bool) -> Split:
    """Read the records of a split, and write their pictures to a folder."""
    folder.mkdir()
    sources: list[Source] = []
    skipped, seen = [], set[str]()
    for where, record in _records(files, root):
        try:
            source = _read_record(where, record, name_of, folder / f"{len(sources):06d}")
        except UserError as error:
            if not skip_bad:
                raise UserError(f"{error} (--skip_bad_images leaves such images out)") from error
            skipped.append(str(error))
            continue
        image_id = source.annotation.image_id
        if image_id in seen:  # of files with one name, such as frames of several videos
            image_id = f"{image_id}_{len(sources)}"
        seen.add(image_id)
        source = replace(source, annotation=replace(source.annotation, image_id=image_id))
        sources.append(source)
    names = ", ".join(dict.fromkeys(path.relative_to(root).as_posix() for path in files))
    return Split(shortened(names), {"record_files": names}, tuple(sources), tuple(skipped))


def _records(files: list[Path], root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the records with their places; a UserError names a file that is cut off."""
    for path in files:
        spans, fault = record_spans(str(path))
        with path.open("rb") as file:
            for number, (position, length) in enumerate(spans, start=1):
                file.seek(position)
                yield f"{path.relative_to(root).as_posix()}, record {number}", file.read(length)
        if fault:
            raise UserError(f"{path}, record {len(spans) + 1}: {fault}: copy or export it again")


def _read_record(where: str, record: bytes, name_of: Mapping[int, str], path: Path) -> Source:
    """Return a record's annotation and its picture, which is written to `path` with the extension of its name."""
    try:
        entries = [entry for part in _MESSAGES["Example"].FromString(record).features for entry in part.feature]
    except DecodeError as error:
        raise UserError(f"{where} is no tf.train.Example") from error
    features: dict[str, list] = {}
    for entry in entries:
        values = [
            value for feature in entry.value for kind in (feature.bytes, feature.floats, feature.ints) for value in kind
        ]
        features[b"".join(entry.key).decode(errors="replace")] = [number for value in values for number in value.value]
    if "image/object/bbox/label" in features:
        raise UserError(f"{where} is a record of this project already: give its folder to --data_dir")
    encoded = features.get("image/encoded", [b""])[0]
    name = (features.get("image/filename") or features.get("image/source_id") or [b""])[0].decode(errors="replace")
    image_id = PurePosixPath(name.replace("\\", "/")).stem
    if not encoded or not image_id or labels.fault_of_characters(image_id):
        raise UserError(f"{where} has no picture, or no name for it (image/encoded, image/filename)")
    picture = path.with_suffix(PurePosixPath(name).suffix if folders.is_picture(Path(name)) else ".jpg")
    picture.write_bytes(encoded)
    height, width = pictures.upright_size(picture)
    sides = [features.get(f"image/object/bbox/{side}", []) for side in ("ymin", "xmin", "ymax", "xmax")]
    numbers, texts = features.get("image/object/class/label", []), features.get("image/object/class/text", [])
    count = len(sides[0])
    if {len(side) for side in sides} != {count} or not (len(numbers) == count or len(texts) == count):
        raise UserError(f"{where}: its lists of sides and classes have unequal lengths")
    objects = []
    for index, box in enumerate(zip(*sides, strict=True)):
        if not all(map(math.isfinite, box)):
            raise UserError(f"{where}: a side of its boxes is not finite")
        told = texts[index].decode(errors="replace").strip() if len(texts) == count else ""
        name = name_of.get(numbers[index], "") if name_of and len(numbers) == count else told
        if not name or labels.fault_of_name(name):
            number = numbers[index] if len(numbers) == count else told
            raise UserError(f"{where}: the class {shortened(number)} is not in the label map (a .pbtxt in the folder)")
        difficult, truncated = (
            any(bool(features.get(f"image/object/{key}", [0] * count)[index : index + 1] == [1]) for key in keys)
            for keys in (("difficult", "is_crowd"), ("truncated",))
        )
        edges = tuple(side * size for side, size in zip(box, (height, width) * 2, strict=True))
        objects.append(LabelledObject(name, edges, difficult, truncated))
    return Source(where, Annotation(image_id, picture, height, width, tuple(objects)), picture)
