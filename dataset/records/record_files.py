"""The files of a converted data set: shards such as `train-00000-of-00016`, labels.txt and dataset.json.

Shards are named as in HiKapok/SSD.TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from dataset.records import schema
from dataset.sources import labels
from dataset.sources.annotations import TRAIN, VALIDATION
from utility.config.settings import LABELS_FILE, ViewConfig
from utility.errors import UserError
from utility.files import json_files

INFO_NAME = "dataset.json"
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
        raise UserError(f"no record files {pattern}: write them with dataset/convert_tfrecords.py")
    counts = sorted({int(path.name[-5:]) for path in shards})
    if len(counts) > 1:
        raise UserError(f"record files {pattern} belong to sets of {_joined(counts)} shards: remove the old set")
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


def count_by_file(shards: list[str]) -> dict[str, int]:
    """Return how many records each shard of a split holds.

    Only the lengths of the records are read, which takes a fraction of a second.

    Raises:
        UserError: there is no record, a file is cut off or no TFRecord file, or `dataset.json` has another number.
            Files of several folders are not held against it, because some are copies without broken records.
    """
    counts = {shard: records_in(shard) for shard in shards}
    total, first = sum(counts.values()), Path(shards[0])
    if not total:
        raise UserError(f"the record files {shards[0]}, ... hold no record: convert the data set again")
    if _folder_with_info(shards):
        split = first.name.split("-")[0]
        written = read_dataset_info(first.parent)["splits"].get(split, {}).get("images", total)
        if total != written:
            empty = [shard for shard, count in counts.items() if not count]
            raise UserError(
                f"the record files {first.parent / split}-*-of-* hold {total} images, but {INFO_NAME}"
                f" lists {written}{f'; {empty[0]} is empty' if empty else ''}: copy or convert the data set again"
            )
    return counts


def image_counts_in_info(counts: Mapping[str, int], key: str) -> dict[str, int] | None:
    """Return how many images of each shard `dataset.json` lists under a key of `images_by_shard`.

    None if it does not, or if it was written with other shards: `counts` are the records of each, in order.
    """
    folder, split = _folder_with_info([*counts]), Path(next(iter(counts))).name.split("-")[0]
    written = read_dataset_info(folder)["splits"].get(split, {}).get("images_by_shard") if folder else None
    if not isinstance(written, dict) or written.get("images") != [*counts.values()]:
        return None
    listed = written.get(key)
    if not isinstance(listed, list) or len(listed) != len(counts):
        return None
    sound = all(isinstance(n, int) and 0 <= n <= most for n, most in zip(listed, counts.values(), strict=True))
    return dict(zip(counts, listed, strict=True)) if sound else None


def _folder_with_info(shards: Sequence[str]) -> Path | None:
    """Return the folder of the shards, None if they have several or there is no `dataset.json` in it."""
    folder = Path(shards[0]).parent
    together = all(Path(shard).parent == folder for shard in shards)
    return folder if together and (folder / INFO_NAME).is_file() else None


def count_records(shards: list[str]) -> int:
    """Return how many records the shards of a split hold; raises what `count_by_file` raises."""
    return sum(count_by_file(shards).values())


def records_in(shard: str) -> int:
    """Count a file's records; a frame is uint64 length, uint32 checksum, record, uint32 checksum."""
    size, position, count = Path(shard).stat().st_size, 0, 0
    with Path(shard).open("rb") as file:
        while position < size:
            file.seek(position)
            length = int.from_bytes(file.read(8), "little")
            if not length:  # lost disk blocks read as zeros, which would count as empty records
                break
            position += 16 + length
            count += 1
    if position != size:
        fault = next(schema.faults_in(shard), None)
        raise UserError(
            f"the record file {shard} is cut off or no TFRecord, record {fault.number if fault else count}: copy or"
            " convert it again, or leave out what is lost with --skip_bad_records"
        )
    return count


class _SplitInfo(TypedDict, total=False):
    images: int
    skipped: list[str]


class _DatasetInfo(TypedDict, total=False):
    class_names: list[str]
    category_ids: list[int]  # of COCO, by class id
    views: ViewConfig
    splits: dict[str, _SplitInfo]


class _Entries(dict):
    """The entries of a file; asking for one that it lacks is a UserError with the remedy."""

    def __init__(self, entries: Mapping[str, Any], source: str):
        super().__init__(entries)
        self._source = source

    def __missing__(self, key: str) -> NoReturn:
        raise UserError(f"{self._source} has no {key!r}: {_CONVERT_AGAIN}")


def read_dataset_info(data_dir: str | Path) -> dict[str, Any]:
    """Return the contents of `dataset.json`, which `conversion.convert.convert` describes.

    Raises:
        FileNotFoundError: there is no such file, because another program wrote the records or the conversion was
            interrupted.
        UserError: the file is not JSON, or an entry has another type; also when a missing one is asked for.
    """
    path = Path(data_dir) / INFO_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: write it with dataset/convert_tfrecords.py")
    info = _Entries(json_files.read_json(path, _CONVERT_AGAIN, _DatasetInfo), str(path))
    if "splits" in info:
        info["splits"] = _Entries(
            {name: _Entries(split, f"{path}, splits.{name},") for name, split in info["splits"].items()},
            f"{path}, splits,",
        )
    if "category_ids" in info and len(info["category_ids"]) != len(info["class_names"]):
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


def views(data_dir: str) -> ViewConfig:
    """Return what the records of a data set show of a picture: the whole of it, if there is no dataset.json."""
    path = Path(data_dir) / INFO_NAME
    written = read_dataset_info(data_dir).get("views", {}) if path.is_file() else {}
    return json_files.converted(written, ViewConfig)


def _joined(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))
