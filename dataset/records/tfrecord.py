"""tf.train.Example messages and frames of TFRecord files, without TensorFlow, whose import takes 5 s.

google.protobuf serializes the messages. It imports in 40 ms and takes 0.11 ms for a JPEG of 100 kB with 3 objects;
decoding such a JPEG to check it takes 1.5 ms.

The frame (length, CRC, record, CRC) is computed here, because TensorFlow is the only dependency with a CRC-32C. numpy
does 190 MB/s, 0.5 ms for such a record, so importing TensorFlow instead would pay off after 10,000 records at best.

The numbers are medians on one CPU core. The tests compare the bytes with those of TensorFlow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import ArrayLike

from utility.files.protobuf import BYTES, FLOAT, INT64, message_classes

# tensorflow/core/example/{example,feature}.proto. On the wire a map field is a repeated message of key and value.
_MESSAGES = message_classes(
    "records",
    {
        "BytesList": [("value", 1, BYTES)],
        "FloatList": [("value", 1, FLOAT)],
        "Int64List": [("value", 1, INT64)],
        "Feature": [("bytes_list", 1, "BytesList"), ("float_list", 2, "FloatList"), ("int64_list", 3, "Int64List")],
        "FeatureEntry": [("key", 1, BYTES), ("value", 2, "Feature")],
        "Features": [("feature", 1, "FeatureEntry")],
        "Example": [("features", 1, "Features")],
    },
)

_CASTAGNOLI = 0x82F63B78  # the polynomial with its bits reversed
_BLOCK = 512  # bytes; the lookup tables then take 512 kB and stay in the CPU's cache
_BLOCKS_AT_ONCE = 256


def bytes_feature(values: Iterable[bytes]) -> Any:
    """Return a tf.train.Feature that holds a list of byte strings."""
    return _MESSAGES["Feature"](bytes_list=[{"value": values}])


def float_feature(values: ArrayLike) -> Any:
    """Return a tf.train.Feature that holds a list of float32; values [n] are rounded to it."""
    return _MESSAGES["Feature"](float_list=[{"value": np.asarray(values, np.float32).tolist()}])


def int64_feature(values: Iterable[int]) -> Any:
    """Return a tf.train.Feature that holds a list of int64."""
    return _MESSAGES["Feature"](int64_list=[{"value": map(int, values)}])


def encode_example(features: Mapping[str, Any]) -> bytes:
    """Serialize a tf.train.Example, its features sorted by name, so that the bytes are reproducible."""
    entries = [{"key": [name.encode()], "value": [features[name]]} for name in sorted(features)]
    return _MESSAGES["Example"](features=[{"feature": entries}]).SerializeToString(deterministic=True)


def decode_example(serialized: bytes) -> dict[str, tuple[str, Sequence[Any]]]:
    """Return the features of a serialized tf.train.Example by name: the kind "bytes", "float" or "int64", and the list.

    A feature without a value may have no kind, "". Of features with the same name the last counts, as in TensorFlow.
    A google.protobuf.message.DecodeError if it is none.
    """
    example = _MESSAGES["Example"].FromString(serialized)
    entries = [entry for features in example.features for entry in features.feature if entry.key]
    try:
        names = [[key.decode() for key in entry.key][-1] for entry in entries]
    except UnicodeDecodeError as error:
        raise DecodeError("a feature's name is not UTF-8") from error
    return {name: _values(entry) for name, entry in zip(names, entries, strict=True)}


def _values(entry: Any) -> tuple[str, Sequence[Any]]:
    for feature in entry.value[-1:]:
        for kind in ("bytes", "float", "int64"):
            lists = getattr(feature, f"{kind}_list")
            if lists:
                return kind, [value for each in lists for value in each.value]
    return "", []


def frame(record: bytes) -> bytes:
    """Return a record in the frame of a TFRecord file: uint64 length, its CRC, the record, its CRC."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, masked_crc(length), record, masked_crc(record)))


def masked_crc(data: bytes) -> bytes:
    """Return the checksum as TFRecord stores it: rotated right by 15 bits, plus a constant."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of data, 0 to 2^32 - 1.

    A CRC is linear: the remainder of a block is the XOR of the remainders of its bytes, each at its distance from the
    block's end. numpy looks these up for many blocks at once; only the step from block to block is a Python loop.
    """
    crc = 0xFFFFFFFF
    whole = len(data) // _BLOCK * _BLOCK
    blocks = np.frombuffer(data, np.uint8, count=whole).reshape(-1, _BLOCK)
    for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
        indices = blocks[start : start + _BLOCKS_AT_ONCE] + _ROW_STARTS
        # no index is out of range, and mode "wrap" is the fastest
        looked_up = _FLAT_REMAINDERS.take(indices, mode="wrap")
        # [blocks, _BLOCK] -> [blocks]
        for remainder in np.bitwise_xor.reduce(looked_up, axis=1).tolist():
            crc = remainder ^ _carried_over_block(crc)
    for byte in data[whole:]:
        crc = (crc >> 8) ^ _LAST_BYTE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _remainder_tables() -> np.ndarray:
    """Return uint32 [_BLOCK, 256]: the remainder of each value of a byte, by the byte's position in a block."""
    last: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = np.where(last & 1, last >> 1 ^ np.uint32(_CASTAGNOLI), last >> 1)
    tables = [last]
    while len(tables) < _BLOCK:
        tables.append(tables[-1] >> 8 ^ last[tables[-1] & 0xFF])
    return np.stack(tables[::-1])


_REMAINDERS = _remainder_tables()
_FLAT_REMAINDERS = _REMAINDERS.ravel()
_ROW_STARTS = np.arange(_BLOCK) * 256
_LAST_BYTE = _REMAINDERS[-1].tolist()
_FIRST_BYTES = _REMAINDERS[:4].tolist()


def _carried_over_block(crc: int) -> int:
    """Return the remainder of the register after one more block: it counts as the block's first 4 bytes."""
    first, second, third, fourth = _FIRST_BYTES
    return first[crc & 0xFF] ^ second[crc >> 8 & 0xFF] ^ third[crc >> 16 & 0xFF] ^ fourth[crc >> 24]
