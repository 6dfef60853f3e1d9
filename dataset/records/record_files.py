"""The files of a converted data set: shards such as `train-00000-of-00016`, labels.txt and dataset.json.

Shards are named as in HiKapok/SSD.TensorFlow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataset.sources import labels
from dataset.sources.annotations import TRAIN, VALIDATION
from utility.config.settings import LABELS_FILE

INFO_NAME = "dataset.json"
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
        ValueError: there is none, some are missing, sets of different sizes are mixed, or all are empty.
    """
    pattern = Path(data_dir) / f"{split_prefix}-*-of-*"
    shards = [path for path in all_shards(data_dir) if path.name.startswith(f"{split_prefix}-")]
    if not shards:
        raise ValueError(f"no record files {pattern}: write them with dataset/convert_tfrecords.py")
    counts = sorted({int(path.name[-5:]) for path in shards})
    if len(counts) > 1:
        raise ValueError(f"record files {pattern} belong to sets of {_joined(counts)} shards: remove the old set")
    names = {path.name for path in shards}
    missing = [name for name in shard_names(split_prefix, counts[0]) if name not in names]
    if missing:
        raise ValueError(
            f"record files {pattern}: {len(missing)} of {counts[0]} are missing, the first is {missing[0]}: "
            "copy or convert the data set again"
        )
    if not any(path.stat().st_size for path in shards):
        raise ValueError(f"record files {pattern} hold no records: all of them are empty, convert again")
    return [str(path) for path in shards]


def count_by_file(shards: list[str]) -> dict[str, int]:
    """Return how many records each shard of a split holds.

    Only the lengths of the records are read, which takes a fraction of a second.

    Raises:
        ValueError: there is no record, a file is cut off or no TFRecord file, or `dataset.json` has another number.
    """
    counts = {shard: records_in(shard) for shard in shards}
    total, first = sum(counts.values()), Path(shards[0])
    if not total:
        raise ValueError(f"the record files {shards[0]}, ... hold no record: convert the data set again")
    if (first.parent / INFO_NAME).is_file():
        split = first.name.split("-")[0]
        written = read_dataset_info(first.parent)["splits"].get(split, {}).get("images", total)
        if total != written:
            empty = [shard for shard, count in counts.items() if not count]
            raise ValueError(
                f"the record files {first.parent / split}-*-of-* hold {total} images, but {INFO_NAME}"
                f" lists {written}{f'; {empty[0]} is empty' if empty else ''}: copy or convert the data set again"
            )
    return counts


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
        raise ValueError(f"the record file {shard} is cut off or no TFRecord: copy or convert it again")
    return count


def read_dataset_info(data_dir: str | Path) -> dict[str, Any]:
    """Return the contents of `dataset.json`, which `conversion.convert.convert` describes.

    Raises:
        FileNotFoundError: there is no such file, because another program wrote the records or the conversion was
            interrupted.
        ValueError: the file is not JSON.
    """
    path = Path(data_dir) / INFO_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: write it with dataset/convert_tfrecords.py")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): convert the data set again") from error


def class_names(data_dir: str, num_classes: int | None) -> tuple[str, ...]:
    """Return the class names of a converted data set, without background.

    Without labels.txt, as in the records of HiKapok/SSD.TensorFlow, they are the classes of VOC.

    Raises:
        ValueError: `num_classes`, which counts the background, does not match, or `dataset.json` has other names.
    """
    path = Path(data_dir) / LABELS_FILE
    names = labels.read_labels(path) if path.is_file() else labels.VOC_CLASSES
    if (Path(data_dir) / INFO_NAME).is_file():
        converted = tuple(read_dataset_info(data_dir)["class_names"])
        if names != converted:
            raise ValueError(
                f"{path} has the classes {', '.join(names)}, but the records were converted with"
                f" {', '.join(converted)} ({INFO_NAME}): restore the file or convert the data set again"
            )
    source = f"{path} has" if path.is_file() else f"there is no {path}, so the classes are VOC's:"
    if num_classes is not None and num_classes != len(names) + 1:
        raise ValueError(
            f"--num_classes={num_classes}: {source} {len(names)} names, which makes {len(names) + 1} classes"
            " with background; leave the flag out"
        )
    return names


def _joined(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))
