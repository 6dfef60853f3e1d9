"""Parses a record with TensorFlow operations: the inverse of schema.py."""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from dataset.records.schema import BOX, SIDES


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parse one record, a string scalar, to a dictionary of tensors; the inverse of `serialize`.

    `image_encoded` string []; `image_id` string [], the file name without its last extension; `height` and
    `width` int32 [] in pixels; `boxes_yxyx` float32 [N, 4] in [0, 1]; `labels` int64 [N]; `difficult` bool
    [N]. N is 0 for an image without objects.
    """
    scalar = {"image/encoded": tf.string, "image/filename": tf.string}
    scalar |= {"image/height": tf.int64, "image/width": tf.int64}
    listed = {BOX + side: tf.float32 for side in SIDES}
    listed |= {BOX + "label": tf.int64, BOX + "difficult": tf.int64}
    features = {name: tf.FixedLenFeature([], dtype) for name, dtype in scalar.items()}
    features |= {name: tf.VarLenFeature(dtype) for name, dtype in listed.items()}
    example = tf.io.parse_single_example(serialized, features)
    # the values of a sparse vector are its whole list, [N]
    lists = {name: example[name].values for name in listed}
    return {
        "image_encoded": example["image/encoded"],
        "image_id": tf.strings.regex_replace(example["image/filename"], r"\.[^.]*$", ""),
        "height": tf.cast(example["image/height"], tf.int32),
        "width": tf.cast(example["image/width"], tf.int32),
        "boxes_yxyx": tf.stack([lists[BOX + side] for side in SIDES], axis=-1),
        "labels": lists[BOX + "label"],
        "difficult": tf.cast(lists[BOX + "difficult"], tf.bool),
    }
