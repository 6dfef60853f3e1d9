"""The index of a V2 checkpoint, looked through before TensorFlow opens it.

TensorFlow ends the process at an entry that it cannot parse, if only the checksum of its block is right. An index has a
BundleEntryProto for each variable, and one with the name "" for the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto

from utility.checkpoints import leveldb_table
from utility.files.text_files import shortened

_MOST_BYTES = 1 << 25  # of an index; thousands of variables take less than one megabyte
_MOST_AXES, _MOST_NUMBERS = 254, 2**63 - 1  # of TensorFlow's tensors
_DTYPES = {
    dtype.as_datatype_enum
    for dtype in (
        *(tf.bfloat16, tf.float16, tf.float32, tf.float64, tf.complex64, tf.complex128, tf.bool, tf.string),
        *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
    )
}


def check(path: Path) -> None:
    """Raise a ValueError if TensorFlow could not read an index: it is damaged, or has a variable in parts."""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"its index has {path.stat().st_size} bytes, more than any network's")
    try:
        entries = leveldb_table.entries(path.read_bytes())
        variables = [(name, BundleEntryProto.FromString(value)) for name, value in entries if name]
    except DecodeError as error:
        raise ValueError("its index is damaged") from error
    except ValueError as error:
        raise ValueError(f"its index {error}") from error
    for name, entry in variables:
        _check_variable(name, entry)


def _check_variable(name: bytes, entry: BundleEntryProto) -> None:
    """Raise a ValueError if an entry has no type or shape that TensorFlow has."""
    text = shortened(name.decode(errors="replace"))
    if entry.slices or name.startswith(b"\0"):
        raise ValueError(f"its index has {text} in parts, which is not read: save it without a partitioner")
    if entry.dtype not in _DTYPES:
        raise ValueError(f"its index has {text} of a type that no variable has")
    if entry.shape.unknown_rank or not _is_shape([dim.size for dim in entry.shape.dim]):
        raise ValueError(f"its index has {text} of a shape that no variable has")


def _is_shape(sides: Sequence[int]) -> bool:
    numbers = 1
    for side in sides:
        numbers *= side
        if side < 0 or numbers > _MOST_NUMBERS:
            return False
    return len(sides) <= _MOST_AXES
