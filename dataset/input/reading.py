"""Counts and checks of TFRecords, their ground truth, and steps that all input functions share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.records.parsing import parse
from dataset.records.scanning import faults_named, quiet
from dataset.sources.annotations import Annotation, LabelledObject

_CHECKED_PER_FILE = 64  # records of a file that are looked at before training starts

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
        with contextlib.suppress(tf.errors.OutOfRangeError), quiet():
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

    Boxes are the annotation's raw pixels, rounded to a thousandth. A ValueError names a broken record, also one with a
    label without a name in `class_names`.
    """
    names = len(class_names)
    with faults_named(shards, names):
        records = lambda: tf.data.TFRecordDataset(shards)  # noqa: E731
        examples = examples_of(lambda: records().map(lambda record: parse(record, names), num_parallel_calls=2))
    return [_annotation(example, class_names) for example in examples]


def _annotation(example: dict[str, Any], class_names: Sequence[str]) -> Annotation:
    image_id, height, width = example["image_id"].decode(), int(example["height"]), int(example["width"])
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


def first_examples(shards: list[str], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the examples of the first records of each file as numpy values, without the pictures.

    They are enough to recognise another data set's labels.txt; reading all records could take minutes.

    Raises:
        ValueError: one of them is broken or has a label without a name.
    """
    names = len(class_names)

    def firsts() -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices(shards)
        records = files.flat_map(lambda shard: tf.data.TFRecordDataset(shard).take(_CHECKED_PER_FILE))
        return records.map(lambda record: parse(record, names), num_parallel_calls=2)

    with faults_named(shards, names):
        return examples_of(firsts)
