"""The TFRecord schema of one image, the same as in HiKapok/SSD.TensorFlow: each project reads the other's records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dataset.records import tfrecord

SIDES = ("ymin", "xmin", "ymax", "xmax")
BOX = "image/object/bbox/"
_SHAPE_NAMES = ("height", "width", "channels")


class RecordObject(NamedTuple):
    """A labelled object of a record."""

    box_yxyx: ArrayLike  # [4] of ymin, xmin, ymax, xmax: the annotation's raw values divided by the image's size
    label: int  # class id, from 1
    label_text: str
    difficult: bool
    truncated: bool


def serialize(image_encoded: bytes, filename: str, height: int, width: int, objects: Sequence[RecordObject]) -> bytes:
    """Return one image and its objects as a serialized tf.train.Example; the same arguments give the same bytes.

    Args:
        image_encoded: a JPEG file, grey or RGB.
        filename: name of the image file, with extension.
        height: of the picture as it came, in pixels; that of the JPEG may be smaller.
        width: likewise.
        objects: the labelled objects, in any order.
    """
    boxes_yxyx = np.array([each.box_yxyx for each in objects], np.float32).reshape(-1, 4)
    shape = (
        height,
        width,
        3,
    )  # also for grey: readers decode it to three channels, and HiKapok/SSD.TensorFlow always writes 3
    features = {
        **{f"image/{name}": tfrecord.int64_feature([n]) for name, n in zip(_SHAPE_NAMES, shape, strict=True)},
        "image/shape": tfrecord.int64_feature(shape),
        "image/encoded": tfrecord.bytes_feature([image_encoded]),
        "image/format": tfrecord.bytes_feature([b"JPEG"]),
        "image/filename": tfrecord.bytes_feature([filename.encode()]),
        **{BOX + side: tfrecord.float_feature(boxes_yxyx[:, i]) for i, side in enumerate(SIDES)},
        BOX + "label": tfrecord.int64_feature(each.label for each in objects),
        BOX + "label_text": tfrecord.bytes_feature(each.label_text.encode() for each in objects),
        BOX + "difficult": tfrecord.int64_feature(each.difficult for each in objects),
        BOX + "truncated": tfrecord.int64_feature(each.truncated for each in objects),
    }
    return tfrecord.encode_example(features)
