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
    example = _features(serialized)
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


def _features(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the features of a serialized Example: scalars, and lists [N]; an InvalidArgumentError if it is none.

    An Example reads as a SequenceExample that has nothing but a context. TensorFlow parses that with protobuf; for
    Examples it has a parser of its own, which ends the process at a text that claims to have over 2 GB, and takes some
    records for Examples that are none.
    """
    parsed = tf.raw_ops.ParseSingleSequenceExample(
        serialized=serialized,
        feature_list_dense_missing_assumed_empty=tf.constant([], tf.string),
        context_sparse_keys=[*LISTS],
        context_dense_keys=[*SCALARS],
        feature_list_sparse_keys=[],
        feature_list_dense_keys=[],
        context_dense_defaults=[tf.constant([], _DTYPES[kind]) for kind in SCALARS.values()],  # none
        debug_name="",
        context_sparse_types=[_DTYPES[kind] for kind in LISTS.values()],
        context_dense_shapes=[[] for _ in SCALARS],
    )
    return {
        **dict(zip(SCALARS, parsed.context_dense_values, strict=True)),
        **dict(zip(LISTS, parsed.context_sparse_values, strict=True)),
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
