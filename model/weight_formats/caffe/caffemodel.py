"""Layer weights from a caffemodel, with the messages of caffe.proto that they need.

Both versions of the schema are read: V1 `layers` with num/channels/height/width, and `layer` with `shape`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from utility.files.protobuf import BYTES, INT32, INT64, Schema, message_classes

# On the wire packed floats are the same as bytes; as bytes numpy reads them without a Python object for each.
_SCHEMA: Schema = {
    "BlobShape": [("dim", 1, INT64)],
    "BlobProto": [
        ("num", 1, INT32),
        ("channels", 2, INT32),
        ("height", 3, INT32),
        ("width", 4, INT32),
        ("data", 5, BYTES),
        ("shape", 7, "BlobShape"),
        ("double_data", 8, BYTES),
    ],
    "LayerParameter": [("name", 1, BYTES), ("blobs", 7, "BlobProto")],
    "V1LayerParameter": [("name", 4, BYTES), ("blobs", 6, "BlobProto")],
    "NetParameter": [("layers", 2, "V1LayerParameter"), ("layer", 100, "LayerParameter")],
}

_NET = message_classes("caffe_weights", _SCHEMA)["NetParameter"]

# A protobuf file has no signature. A caffemodel begins with the tag of NetParameter's name, layers, input or layer.
FIRST_BYTES = (b"\x0a", b"\x12", b"\x1a", b"\xa2\x06")
_MAX_BYTES = 2**31 - 1  # protobuf's limit for a message


def read(path: str) -> dict[str, list[np.ndarray]]:
    """Return layer -> its blobs, float32 or float64; layers without blobs are left out.

    A blob has the shape that the file gives it: [O, I, H, W] for a convolution. In the V1 schema every blob has four
    axes, such as [1, 1, 1, O] for a bias.

    Raises:
      ValueError: the file is no caffemodel, has no weights, or is cut off.
    """
    if Path(path).stat().st_size > _MAX_BYTES:
        raise ValueError("it is too large for a caffemodel, which has less than 2 GiB")
    net = _NET()
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
        raise ValueError(f"layer {layer!r} has {len(numbers)} bytes of numbers, which do not fill {shape} of {dtype}")
    return np.frombuffer(numbers, dtype).reshape(shape)
