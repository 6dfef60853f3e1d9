"""Counts and checks of TFRecords, their ground truth, and steps that all input functions share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.records import record_files
from dataset.records.parsing import parse
from dataset.sources.annotations import Annotation, LabelledObject

_CHECKED_PER_FILE = 64  # records of a file whose labels are checked before training starts

InputFn = Callable[[], tf.data.Dataset]

# For functions of TensorFlow operations only: AutoGraph would take seconds to rewrite them, without effect.
without_autograph = tf.autograph.experimental.do_not_convert


def learnable(example: dict[str, tf.Tensor], use_difficult: bool) -> dict[str, tf.Tensor]:
    """Remove difficult objects from an example's boxes and labels, unless `use_difficult`."""
    keep = tf.logical_or(tf.logical_not(example["difficult"]), use_difficult)
    return {**example, **{key: tf.boolean_mask(example[key], keep) for key in ("boxes_yxyx", "labels")}}


@without_autograph
def examples_of(make_dataset: InputFn) -> list[dict[str, Any]]:
    """Return a data set's examples as numpy values, without the pictures; no GPU is used."""
    elements, without_gpu = [], tf.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default(), tf.Session(config=without_gpu) as session:
        example = tf.data.make_one_shot_iterator(make_dataset()).get_next()
        del example["image_encoded"]
        with contextlib.suppress(tf.errors.OutOfRangeError):
            while True:
                elements.append(session.run(example))
    return elements


def element(image: tf.Tensor, example: dict[str, tf.Tensor], boxes: tf.Tensor, labels: tf.Tensor):
    """Return (features, labels) of one image, before batching."""
    return {"image": image, "image_id": example["image_id"]}, {"boxes_yxyx": boxes, "labels": labels}


def configured(dataset: tf.data.Dataset, deterministic: bool) -> tf.data.Dataset:
    """Make a data set keep its order, or let it yield elements as soon as they are ready."""
    options = tf.data.Options()
    options.deterministic = deterministic
    return dataset.with_options(options)


def ground_truth_of(shards: list[str], class_names: Sequence[str]) -> list[Annotation]:
    """Read the objects of records back as annotations; no picture is decoded.

    Boxes are the annotation's raw pixels, rounded to a thousandth. ValueError if a label has no name in
    `class_names`.
    """
    examples = examples_of(lambda: tf.data.TFRecordDataset(shards).map(parse, num_parallel_calls=2))
    return [_annotation(example, class_names) for example in examples]


def _annotation(example: dict[str, Any], class_names: Sequence[str]) -> Annotation:
    image_id, height, width = example["image_id"].decode(), int(example["height"]), int(example["width"])
    _check_ids(example, class_names)
    # float32 fractions of the image are exact to about a thousandth of a pixel
    boxes = np.round(example["boxes_yxyx"].astype(np.float64) * [height, width, height, width], 3)
    objects = zip(boxes.tolist(), example["labels"].tolist(), example["difficult"].tolist(), strict=True)
    return Annotation(
        image_id,
        Path(image_id),
        height,
        width,
        tuple(
            LabelledObject(class_names[label - 1], tuple(box), difficult, False) for box, label, difficult in objects
        ),
    )


def check_labels(shards: list[str], class_names: Sequence[str]) -> None:
    """Raise a ValueError if one of the first records of each file has a label without a name.

    They are enough to recognise another data set's labels.txt; checking all records could take minutes.
    """
    files = tf.data.Dataset.from_tensor_slices
    firsts = lambda: files(shards).flat_map(lambda shard: tf.data.TFRecordDataset(shard).take(_CHECKED_PER_FILE))  # noqa: E731
    for example in examples_of(lambda: firsts().map(parse)):
        _check_ids(example, class_names)


def _check_ids(example: dict[str, Any], class_names: Sequence[str]) -> None:
    ids = example["labels"]
    if ids.size and not 1 <= ids.min() <= ids.max() <= len(class_names):
        raise ValueError(
            f"the record of image {example['image_id'].decode()} has class ids {sorted(set(ids.tolist()))}, but there"
            f" are {len(class_names)} class names: the records and labels.txt are of different data sets"
        )


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
    if (first.parent / record_files.INFO_NAME).is_file():
        split = first.name.split("-")[0]
        written = record_files.read_dataset_info(first.parent)["splits"].get(split, {}).get("images", total)
        if total != written:
            empty = [shard for shard, count in counts.items() if not count]
            raise ValueError(
                f"the record files {first.parent / split}-*-of-* hold {total} images, but {record_files.INFO_NAME}"
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
