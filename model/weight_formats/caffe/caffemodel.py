"""Layer weights from a caffemodel, with the messages of caffe.proto that they need.

Both versions of the schema are read: V1 `layers` with num/channels/height/width, and `layer` with `shape`.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.weight_formats.caffe.wire import Message, Part, signed
from utility.errors import UserError
from utility.files.text_files import shortened


class _Schema(NamedTuple):
    """Numbers of the fields of a layer's message."""

    name: int
    blobs: int


# NetParameter's fields of layers, V1LayerParameter and LayerParameter
_LAYERS = {2: _Schema(name=4, blobs=6), 100: _Schema(name=1, blobs=7)}
# BlobProto: num, channels, height and width are 1 to 4
_DATA, _SHAPE, _DOUBLE_DATA = 5, 7, 8
_DIM = 1  # of BlobShape

# A protobuf file has no signature. A caffemodel begins with the tag of NetParameter's name, layers, input or layer.
FIRST_BYTES = (b"\x0a", b"\x12", b"\x1a", b"\xa2\x06")
_MAX_BYTES = 2**31 - 1  # protobuf's limit for a message
_MOST_AXES = 32  # kMaxBlobAxes of Caffe
_MOST_BLOBS = 8  # of a layer
_MOST_PARTS = 1000  # in which a blob's numbers may come


def read(path: str) -> dict[str, list[np.ndarray]]:
    """Return layer -> its blobs, float32 or float64, mapped from the file; layers without blobs are left out.

    A blob has the shape that the file gives it: [O, I, H, W] for a convolution. In the V1 schema every blob has four
    axes, such as [1, 1, 1, O] for a bias.

    Raises:
      UserError: the file is no caffemodel, has no weights, or is cut off.
    """
    size = Path(path).stat().st_size
    if size > _MAX_BYTES:
        raise UserError("it is too large for a caffemodel, which has less than 2 GiB")
    with Path(path).open("rb") as file:
        message = Message(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    layers = [
        _layer(message, part, _LAYERS[number])
        for number, part in message.fields((0, size))
        if number in _LAYERS and isinstance(part, tuple)
    ]
    found = {name: blobs for name, blobs in layers if blobs}
    if not found:
        raise UserError("as a caffemodel it has no layer with weights")
    return found


def _layer(message: Message, part: Part, schema: _Schema) -> tuple[str, list[np.ndarray]]:
    name, blobs = "", []
    for number, value in message.fields(part):
        if isinstance(value, tuple) and number == schema.name:
            name = shortened(bytes(message.data[slice(*value)][:1000]).decode(errors="replace"))
        elif isinstance(value, tuple) and number == schema.blobs:
            blobs.append(value)
            if len(blobs) > _MOST_BLOBS:
                raise UserError(f"layer {name!r} has more than {_MOST_BLOBS} blobs, which no layer has")
    return name, [_array(message, name, blob) for blob in blobs]


def _array(message: Message, layer: str, part: Part) -> np.ndarray:
    """Return the numbers of a BlobProto."""
    sides, shape, parts = {}, None, []
    for number, value in message.fields(part):
        if isinstance(value, int):
            sides[number] = signed(value)
        elif number == _SHAPE:
            shape = (shape or []) + _dims(message, value)
        elif number in (_DATA, _DOUBLE_DATA):
            parts.append((number, message.data[slice(*value)]))
    if shape is None:
        shape = [sides.get(number, 0) for number in (1, 2, 3, 4)]
    if len(shape) > _MOST_AXES or len(parts) > _MOST_PARTS:
        raise UserError(f"layer {layer!r} has an array of {len(shape)} axes in {len(parts)} parts, which no layer has")
    kind = max((number for number, _ in parts), default=_DATA)
    numbers = [data for number, data in parts if number == kind]
    data = numbers[0] if len(numbers) == 1 else b"".join(numbers)
    dtype = np.dtype("<f8" if kind == _DOUBLE_DATA else "<f4")
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != len(data):
        raise UserError(
            f"layer {layer!r} has {len(data)} bytes of numbers, which do not fill {shortened(shape)} of {dtype}"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _dims(message: Message, part: Part) -> list[int]:
    """Return the sides in a BlobShape, packed or one by one."""
    dims: list[int] = []
    for number, value in message.fields(part):
        if number == _DIM and isinstance(value, int):
            dims.append(signed(value))
        elif number == _DIM and isinstance(value, tuple):
            dims += message.varints(value, _MOST_AXES)
    return dims
