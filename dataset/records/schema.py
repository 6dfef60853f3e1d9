"""The TFRecord schema of one image, the same as in HiKapok/SSD.TensorFlow: each project reads the other's records.

Writes tf.train.Example messages without TensorFlow, whose import takes 5 s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dataset.records.record_files import BOX, SIDES


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
    channels = 3  # also for grey: readers decode it to three channels, and HiKapok/SSD.TensorFlow always writes 3
    integers = {
        "image/height": [height],
        "image/width": [width],
        "image/channels": [channels],
        "image/shape": [height, width, channels],
        BOX + "label": [each.label for each in objects],
        BOX + "difficult": [each.difficult for each in objects],
        BOX + "truncated": [each.truncated for each in objects],
    }
    return encode_example(
        {
            "image/encoded": [image_encoded],
            "image/format": [b"JPEG"],
            "image/filename": [filename.encode()],
            BOX + "label_text": [each.label_text.encode() for each in objects],
            **{name: np.array(values, np.int64) for name, values in integers.items()},
            **{BOX + side: boxes_yxyx[:, i] for i, side in enumerate(SIDES)},
        }
    )


def encode_example(features: Mapping[str, Sequence[bytes] | np.ndarray]) -> bytes:
    """Serialize a tf.train.Example of byte strings, float32 [n] or int64 [n], by name.

    Features are sorted by name, as protobuf does for reproducible bytes. The messages and the numbers of their fields
    are those of tensorflow/core/example/{example,feature}.proto.
    """
    entries = [_field(1, name.encode()) + _field(2, _feature(features[name])) for name in sorted(features)]
    return _field(1, b"".join(_field(1, entry) for entry in entries))


def _feature(values: Sequence[bytes] | np.ndarray) -> bytes:
    """Return a Feature: a BytesList is its field 1, a FloatList 2, an Int64List 3; the values are a list's field 1."""
    if not isinstance(values, np.ndarray):
        return _field(1, b"".join(_field(1, value) for value in values))
    if values.dtype == np.float32:
        kind, packed = 2, values.astype("<f4").tobytes()
    else:
        kind, packed = 3, b"".join(_varint(int(value)) for value in values)
    return _field(kind, _field(1, packed) if packed else b"")


def _field(number: int, content: bytes) -> bytes:
    """Return a field of a protocol-buffer message that is preceded by its length (wire type 2)."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Return an int64 in groups of 7 bits, the lowest first; all but the last have the highest bit set."""
    value &= 2**64 - 1
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
