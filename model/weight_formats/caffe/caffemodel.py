"""Layers and their numbers from a caffemodel: the part of caffe.proto that weights need.

Both generations of Caffe's schema are read: V1 `layers` with num/channels/height/width, and `layer` with `shape`.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_BYTES, _INT32, _INT64, _MESSAGE = 12, 5, 3, 11  # FieldDescriptorProto.Type
_REPEATED = 3  # FieldDescriptorProto.Label

# Message -> (field, number, type); all are declared as repeated, which reads a single value too. Packed numbers
# have the same form as bytes, and as bytes they reach numpy without a Python object for each.
_SCHEMA: dict[str, list[tuple[str, int, int | str]]] = {
    "BlobShape": [("dim", 1, _INT64)],
    "BlobProto": [
        ("num", 1, _INT32),
        ("channels", 2, _INT32),
        ("height", 3, _INT32),
        ("width", 4, _INT32),
        ("data", 5, _BYTES),
        ("shape", 7, "BlobShape"),
        ("double_data", 8, _BYTES),
    ],
    "LayerParameter": [("name", 1, _BYTES), ("blobs", 7, "BlobProto")],
    "V1LayerParameter": [("name", 4, _BYTES), ("blobs", 6, "BlobProto")],
    "NetParameter": [("layers", 2, "V1LayerParameter"), ("layer", 100, "LayerParameter")],
}

# What a caffemodel can begin with: the tags of NetParameter's name, layers, input and layer.
FIRST_BYTES = (b"\x0a", b"\x12", b"\x1a", b"\xa2\x06")
_MOST_BYTES = 2**31 - 1  # protobuf's limit for a message


@cache
def _net_parameter() -> Any:
    """Return the class of a NetParameter message, made without protoc and apart from any other caffe.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe_weights.proto", package="caffe_weights", syntax="proto2")
    for message, fields in _SCHEMA.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            field = described.field.add(name=name, number=number, label=_REPEATED)
            field.type = _MESSAGE if isinstance(kind, str) else kind
            if isinstance(kind, str):
                field.type_name = f".caffe_weights.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe_weights.NetParameter"))


def read(path: str) -> dict[str, list[np.ndarray]]:
    """Return layer -> its blobs, float32 or float64, of the layers that have any.

    A blob has the axes that its file gives it: a convolution [O, I, H, W]; in the V1 schema always four, with
    the first ones 1 where there are fewer.

    Raises:
      ValueError: the file is no caffemodel, or is cut off.
    """
    if Path(path).stat().st_size > _MOST_BYTES:
        raise ValueError("it is too large for a caffemodel, which has less than 2 GiB")
    net = _net_parameter()()
    try:
        net.ParseFromString(Path(path).read_bytes())
    except DecodeError as error:
        raise ValueError("as a caffemodel it is damaged or cut off") from error
    layers = {_text(layer.name): layer.blobs for layer in [*net.layers, *net.layer] if layer.blobs}
    if not layers:
        raise ValueError("as a caffemodel it has no layer with weights")
    return {name: [_array(name, blob) for blob in blobs] for name, blobs in layers.items()}


def _text(values: Any) -> str:
    return b"".join(values).decode(errors="replace")


def _array(layer: str, blob: Any) -> np.ndarray:
    if blob.shape:
        shape = [length for part in blob.shape for length in part.dim]
    else:
        shape = [sum(lengths[-1:]) for lengths in (blob.num, blob.channels, blob.height, blob.width)]
    numbers = b"".join(blob.double_data or blob.data)
    dtype = np.dtype("<f8" if blob.double_data else "<f4")
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != len(numbers):
        raise ValueError(f"layer {layer!r} has {len(numbers)} bytes of numbers, which is not {shape} of {dtype}")
    return np.frombuffer(numbers, dtype).reshape(shape)
