"""The TFRecord schema of one image, and the files a converted data set consists of.

A data set is a folder with shards `train-00000-of-00016`, `val-00000-of-00016`, …, `labels.txt` and
`dataset.json`. The schema and the names of the shards are those of HiKapok/SSD.TensorFlow, so either
project reads the other's records.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dataset import labels, tfrecord
from utility.config import LABELS_FILE

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

TRAIN = "train"
VALIDATION = "val"
INFO_NAME = "dataset.json"

_SHARD = re.compile(rf"({TRAIN}|{VALIDATION})-(\d{{5}})-of-(\d{{5}})")
_SIDES = ("ymin", "xmin", "ymax", "xmax")
_SHAPE_NAMES = ("height", "width", "channels")
_BOX = "image/object/bbox/"


def serialize(
    *,
    image_encoded: bytes,
    filename: str,
    height: int,
    width: int,
    boxes_yxyx: np.ndarray,
    labels: Sequence[int],
    label_texts: Sequence[str],
    difficult: Sequence[bool],
    truncated: Sequence[bool],
) -> bytes:
    """Return one image and its N objects as a serialized tf.train.Example.

    `image_encoded` is a JPEG, grey or RGB; `filename` has its extension; `height` and `width` are in pixels;
    `boxes_yxyx` is a float array [N, 4] of VOC's raw values over the image's size; `labels` are class ids
    from 1. The same arguments give the same bytes.
    """
    boxes_yxyx = np.asarray(boxes_yxyx, np.float32).reshape(-1, 4)
    # Readers decode grey to three channels, and the reference writes 3 for every image.
    shape = (height, width, 3)
    features = {
        **{f"image/{name}": tfrecord.int64_feature([n]) for name, n in zip(_SHAPE_NAMES, shape, strict=True)},
        "image/shape": tfrecord.int64_feature(shape),
        "image/encoded": tfrecord.bytes_feature([image_encoded]),
        "image/format": tfrecord.bytes_feature([b"JPEG"]),
        "image/filename": tfrecord.bytes_feature([filename.encode()]),
        **{_BOX + side: tfrecord.float_feature(boxes_yxyx[:, i]) for i, side in enumerate(_SIDES)},
        _BOX + "label": tfrecord.int64_feature(labels),
        _BOX + "label_text": tfrecord.bytes_feature(text.encode() for text in label_texts),
        _BOX + "difficult": tfrecord.int64_feature(difficult),
        _BOX + "truncated": tfrecord.int64_feature(truncated),
    }
    return tfrecord.encode_example(features)


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the tensors of one record, a string scalar; pure TensorFlow ops, the inverse of `serialize`.

    `image_encoded` string []; `image_id` string [], the file's name without its last extension; `height` and
    `width` int32 [] in pixels; `boxes_yxyx` float32 [N, 4] in [0, 1]; `labels` int64 [N]; `difficult` bool
    [N]. N is 0 for an image without objects.
    """
    # Here, because it takes seconds, and all else in this module, the converter's part, does without.
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    scalar = {"image/encoded": tf.string, "image/filename": tf.string}
    scalar |= {"image/height": tf.int64, "image/width": tf.int64}
    listed = {_BOX + side: tf.float32 for side in _SIDES}
    listed |= {_BOX + "label": tf.int64, _BOX + "difficult": tf.int64}
    features = {name: tf.FixedLenFeature([], dtype) for name, dtype in scalar.items()}
    features |= {name: tf.VarLenFeature(dtype) for name, dtype in listed.items()}
    example = tf.io.parse_single_example(serialized, features)
    # The values of a sparse vector are the whole list: [N].
    lists = {name: example[name].values for name in listed}
    return {
        "image_encoded": example["image/encoded"],
        "image_id": tf.strings.regex_replace(example["image/filename"], r"\.[^.]*$", ""),
        "height": tf.cast(example["image/height"], tf.int32),
        "width": tf.cast(example["image/width"], tf.int32),
        "boxes_yxyx": tf.stack([lists[_BOX + side] for side in _SIDES], axis=-1),
        "labels": lists[_BOX + "label"],
        "difficult": tf.cast(lists[_BOX + "difficult"], tf.bool),
    }


def shard_names(split_prefix: str, count: int) -> list[str]:
    """Return the shards' names of a split ('train' or 'val'), in order: `train-00000-of-00016` and on."""
    return [f"{split_prefix}-{index:05d}-of-{count:05d}" for index in range(count)]


def shard_paths(data_dir: str | Path, split_prefix: str, count: int) -> list[Path]:
    """Return where the shards of a split ('train' or 'val') of `count` shards stand, in order."""
    return [Path(data_dir) / name for name in shard_names(split_prefix, count)]


def all_shards(data_dir: str | Path) -> list[Path]:
    """Return every shard of any split and count in a folder, sorted; [] when there is no such folder."""
    folder = Path(data_dir)
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in there if _SHARD.fullmatch(path.name))


def find_shards(data_dir: str | Path, split_prefix: str) -> list[str]:
    """Return the paths of all shards of a split ('train' or 'val'), in order.

    Raises:
        ValueError: there is none, some are missing, sets of different sizes are mixed, or all are empty; the
            message names the pattern.
    """
    pattern = Path(data_dir) / f"{split_prefix}-*-of-*"
    shards = [path for path in all_shards(data_dir) if path.name.startswith(f"{split_prefix}-")]
    if not shards:
        raise ValueError(f"no record files {pattern}: write them with dataset/convert_tfrecords.py")
    counts = sorted({int(path.name[-5:]) for path in shards})
    if len(counts) > 1:
        raise ValueError(f"record files {pattern} are of sets of {_joined(counts)} shards: remove the old set")
    there = {path.name for path in shards}
    missing = [name for name in shard_names(split_prefix, counts[0]) if name not in there]
    if missing:
        raise ValueError(
            f"record files {pattern}: {len(missing)} of {counts[0]} are missing, the first is {missing[0]}: "
            "copy or convert the data set again"
        )
    if not any(path.stat().st_size for path in shards):
        raise ValueError(f"record files {pattern} hold no records: all of them are empty, convert again")
    return [str(path) for path in shards]


def read_dataset_info(data_dir: str | Path) -> dict[str, Any]:
    """Return what `dataset.json` tells of a converted data set; see `convert_tfrecords.convert`.

    Raises:
        FileNotFoundError: there is no such file: the folder was not made by dataset/convert_tfrecords.py, or
            that was interrupted.
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
    """Return the class names of a converted data set, background left out.

    Records of the reference have no labels.txt; theirs are the classes of VOC. ValueError when the given
    `num_classes` (background included) is another number, or the converter wrote other names.
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
    source = str(path) if path.is_file() else f"there is no {path}, so the classes are VOC's; it"
    if num_classes is not None and num_classes != len(names) + 1:
        raise ValueError(
            f"--num_classes={num_classes}: {source} has {len(names)} names, which makes {len(names) + 1} classes"
            " with background; leave the flag out"
        )
    return names


def _joined(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))
