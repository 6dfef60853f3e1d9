"""The files of a converted data set: shards such as `train-00000-of-00016`, labels.txt and dataset.json.

Shards are TFRecord files, named as in HiKapok/SSD.TensorFlow; schema.py writes what a record holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from dataset.sources import labels
from dataset.sources.annotations import TRAIN, VALIDATION
from utility.config.settings import LABELS_FILE, ViewConfig
from utility.errors import UserError
from utility.files import json_files
from utility.files.tfrecord import is_record_file, record_spans

INFO_NAME = "dataset.json"
BOX = "image/object/bbox/"  # with which the names of a record's features of objects begin
SIDES = ("ymin", "xmin", "ymax", "xmax")
_CONVERT_AGAIN = "convert the data set again"
_SHARD = re.compile(rf"({TRAIN}|{VALIDATION})-(\d{{5}})-of-(\d{{5}})")


def shard_names(split_prefix: str, count: int) -> list[str]:
    """Return the names of a split's shards, in order; the prefix is 'train' or 'val'."""
    return [f"{split_prefix}-{index:05d}-of-{count:05d}" for index in range(count)]


def shard_paths(data_dir: str | Path, split_prefix: str, count: int) -> list[Path]:
    """Return the paths of a split's shards, in order; the prefix is 'train' or 'val'."""
    return [Path(data_dir) / name for name in shard_names(split_prefix, count)]


def all_shards(data_dir: str | Path) -> list[Path]:
    """Return the shards of all splits in a folder, sorted; [] if there is no such folder."""
    folder = Path(data_dir)
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if _SHARD.fullmatch(path.name))


def find_shards(data_dir: str | Path, split_prefix: str) -> list[str]:
    """Return the paths of all shards of a split, in order; the prefix is 'train' or 'val'.

    Raises:
        UserError: there is none, some are missing, sets of different sizes are mixed, or all are empty.
    """
    pattern = Path(data_dir) / f"{split_prefix}-*-of-*"
    shards = [path for path in all_shards(data_dir) if path.name.startswith(f"{split_prefix}-")]
    if not shards:
        if others := [path for path in sorted(Path(data_dir).glob("**/*.*record*")) if is_record_file(path.name)]:
            raise UserError(foreign_records(others[0], data_dir))
        raise UserError(f"no record files {pattern}: write them with dataset/convert_tfrecords.py")
    counts = sorted({int(path.name[-5:]) for path in shards})
    if len(counts) > 1:
        several = " and ".join(map(str, counts))
        raise UserError(f"record files {pattern} belong to sets of {several} shards: remove the old set")
    names = {path.name for path in shards}
    missing = [name for name in shard_names(split_prefix, counts[0]) if name not in names]
    if missing:
        raise UserError(
            f"record files {pattern}: {len(missing)} of {counts[0]} are missing, the first is {missing[0]}: "
            "copy or convert the data set again"
        )
    if not any(path.stat().st_size for path in shards):
        raise UserError(f"record files {pattern} hold no records: all of them are empty, convert again")
    return [str(path) for path in shards]


def foreign_records(path: str | Path, data_dir: str | Path) -> str:
    """Return an error about records of TensorFlow's Object Detection API, which others call "TFRecord"."""
    return (
        f"the record file {path} is not of this project, but of TensorFlow's Object Detection API or the like: convert "
        f"it: python dataset/convert_tfrecords.py --format=odapi --dataset_directory={data_dir} --output_directory=..."
    )


def count_by_file(shards: list[str]) -> dict[str, int]:
    """Return how many records each shard of a split holds.

    Raises:
        UserError: there is no record, a file is cut off or no TFRecord file, or `dataset.json` has another number.
            Files of several folders are not held against it, because some are copies without broken records.
    """
    counts = {}
    for shard in shards:
        spans, fault = record_spans(shard)
        if fault:
            raise UserError(
                f"the record file {shard} is cut off or no TFRecord, record {len(spans) + 1}: copy or convert it"
                " again, or leave out what is lost with --skip_bad_records"
            )
        counts[shard] = len(spans)
    total = sum(counts.values())
    if not total:
        raise UserError(f"the record files {shards[0]}, ... hold no record: convert the data set again")
    written = _split_info(counts).get("images", total)
    if total != written:
        folder, split = Path(shards[0]).parent, Path(shards[0]).name.split("-")[0]
        empty = [shard for shard, count in counts.items() if not count]
        raise UserError(
            f"the record files {folder / split}-*-of-* hold {total} images, but {INFO_NAME}"
            f" lists {written}{f'; {empty[0]} is empty' if empty else ''}: copy or convert the data set again"
        )
    return counts


def count_records(shards: list[str]) -> int:
    """Return how many records the shards of a split hold; raises what `count_by_file` raises."""
    return sum(count_by_file(shards).values())


def image_counts_in_info(counts: Mapping[str, int], key: str) -> dict[str, int] | None:
    """Return how many images of each shard `dataset.json` lists under a key of `images_by_shard`.

    None if it does not, or if it was written with other shards: `counts` are the records of each, in order.
    """
    by_shard = _split_info(counts).get("images_by_shard", {})
    if by_shard.get("images") != [*counts.values()] or len(by_shard.get(key, ())) != len(counts):
        return None
    return dict(zip(counts, by_shard[key], strict=True))


def _split_info(shards: Mapping[str, int]) -> dict[str, Any]:
    """Return what `dataset.json` has of the split of these shards; {} without it, or if they are in several folders."""
    folders = {Path(shard).parent for shard in shards}
    first = Path(next(iter(shards)))
    if len(folders) > 1 or not (first.parent / INFO_NAME).is_file():
        return {}
    return read_dataset_info(first.parent)["splits"].get(first.name.split("-")[0], {})


class _RequiredOfSplit(TypedDict):
    images: int
    skipped: list[str]


class _SplitInfo(_RequiredOfSplit, total=False):
    images_by_shard: dict[str, list[int]]


class _RequiredInfo(TypedDict):
    class_names: list[str]
    splits: dict[str, _SplitInfo]


class _DatasetInfo(_RequiredInfo, total=False):
    category_ids: list[int]  # of COCO, by class id
    views: ViewConfig
    pixel_extent: float


def read_dataset_info(data_dir: str | Path) -> dict[str, Any]:
    """Return the contents of `dataset.json`, which `conversion.convert.convert` describes.

    Raises:
        FileNotFoundError: there is no such file, because another program wrote the records or the conversion was
            interrupted.
        UserError: the file is not JSON, or an entry is missing or has another type.
    """
    path = Path(data_dir) / INFO_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: write it with dataset/convert_tfrecords.py")
    info: Any = json_files.read_json(path, _CONVERT_AGAIN, _DatasetInfo)
    if len(info.get("category_ids", info["class_names"])) != len(info["class_names"]):
        raise UserError(f"{path} has category_ids and class_names of different numbers: {_CONVERT_AGAIN}")
    return info


def class_names(data_dir: str, num_classes: int | None) -> tuple[str, ...]:
    """Return the class names of a converted data set, without background.

    Without labels.txt, as in the records of HiKapok/SSD.TensorFlow, they are the classes of VOC.

    Raises:
        UserError: `num_classes`, which counts the background, does not match, or `dataset.json` has other names.
    """
    path = Path(data_dir) / LABELS_FILE
    names = labels.read_labels(path) if path.is_file() else labels.VOC_CLASSES
    if (Path(data_dir) / INFO_NAME).is_file():
        converted = tuple(read_dataset_info(data_dir)["class_names"])
        if names != converted:
            raise UserError(
                f"{path} has the classes {', '.join(names)}, but the records were converted with"
                f" {', '.join(converted)} ({INFO_NAME}): restore the file or convert the data set again"
            )
    source = f"{path} has" if path.is_file() else f"there is no {path}, so the classes are VOC's:"
    if num_classes is not None and num_classes != len(names) + 1:
        raise UserError(
            f"--num_classes={num_classes}: {source} {len(names)} names, which makes {len(names) + 1} classes"
            " with background; leave the flag out"
        )
    return names


def pixel_extent(data_dir: str) -> float:
    """Return by how much a side of a box in pixels is longer than max - min: 1 as in VOC, if dataset.json has none."""
    path = Path(data_dir) / INFO_NAME
    return float(read_dataset_info(data_dir).get("pixel_extent", 1.0)) if path.is_file() else 1.0


def views(data_dir: str) -> ViewConfig:
    """Return what the records of a data set show of a picture: the whole of it, if there is no dataset.json."""
    path = Path(data_dir) / INFO_NAME
    written = read_dataset_info(data_dir).get("views", {}) if path.is_file() else {}
    return json_files.converted(written, ViewConfig)
