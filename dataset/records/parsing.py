"""Parses a record with TensorFlow operations: the inverse of schema.py."""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from dataset.records.faults import LISTS, SCALARS
from dataset.records.schema import BOX, SIDES

_DTYPES = {"bytes": tf.string, "float": tf.float32, "int64": tf.int64}
_NAME = r"[^\x00-\x1f\x7f\x{D800}-\x{DFFF}]+"  # of UTF-8; RE2 matches no bytes that are none


def parse(serialized: tf.Tensor, num_classes: int | None = None) -> dict[str, tf.Tensor]:
    """Parse one record, a string scalar, to a dictionary of tensors; the inverse of `serialize`.

    `image_encoded` string []; `image_id` string [], the file name without its last extension; `height` and
    `width` int32 [] in pixels; `boxes_yxyx` float32 [N, 4] in [0, 1]; `labels` int64 [N]; `difficult` bool
    [N]. N is 0 for an image without objects.

    A record in which `faults.fault_of` finds something is an InvalidArgumentError; `scanning.faults_named` names it.
    """
    features = {name: tf.FixedLenFeature([], _DTYPES[kind]) for name, kind in SCALARS.items()}
    features |= {name: tf.VarLenFeature(_DTYPES[kind]) for name, kind in LISTS.items()}
    example = tf.io.parse_single_example(serialized, features)
    # the values of a sparse vector are its whole list, [N]
    example |= {name: example[name].values for name in LISTS}
    with tf.control_dependencies([tf.debugging.Assert(_is_sound(example, num_classes), ["a record has a fault"])]):
        example = {name: tf.identity(value) for name, value in example.items()}
    return {
        "image_encoded": example["image/encoded"],
        "image_id": tf.strings.regex_replace(example["image/filename"], r"\.[^.]*$", ""),
        "height": tf.cast(example["image/height"], tf.int32),
        "width": tf.cast(example["image/width"], tf.int32),
        "boxes_yxyx": tf.stack([example[BOX + side] for side in SIDES], axis=-1),
        "labels": example[BOX + "label"],
        "difficult": tf.cast(example[BOX + "difficult"], tf.bool),
    }


def _is_sound(example: dict[str, tf.Tensor], num_classes: int | None) -> tf.Tensor:
    """Return whether a record is what `faults.fault_of` takes for a good one, a bool scalar."""
    labels, size = example[BOX + "label"], tf.stack([example["image/height"], example["image/width"]])
    lengths = tf.stack([tf.size(example[name]) for name in LISTS])
    conditions = [
        tf.reduce_all(tf.equal(lengths, lengths[0])),
        *(tf.reduce_all(tf.math.is_finite(example[BOX + side])) for side in SIDES),
        tf.reduce_all(labels >= 1),
        tf.reduce_all(labels <= (tf.int64.max if num_classes is None else num_classes)),
        tf.reduce_all((size >= 1) & (size <= tf.int32.max)),
        tf.strings.length(example["image/encoded"]) > 0,
        tf.strings.regex_full_match(example["image/filename"], _NAME),
    ]
    return tf.reduce_all(tf.stack(conditions))
