"""TFRecord files and tf.train.Example messages, written without TensorFlow.

Importing TensorFlow takes four seconds, in which the converter is done with a thousand images. Both formats
are small and frozen: protocol buffers' wire format, and TFRecord's frame (length, its checksum, data, its
checksum). The tests hold the bytes against TensorFlow's own writer and parser.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

_CASTAGNOLI = 0x82F63B78
_BLOCK = 512  # bytes whose remainders are looked up at once; the tables, 512 kB, stay in the CPU's cache
_BLOCKS_AT_ONCE = 256
_LENGTH_DELIMITED = 2


def bytes_feature(values: Iterable[bytes]) -> bytes:
    """Encode a tf.train.Feature that holds a list of byte strings."""
    return _field(1, b"".join(_field(1, value) for value in values))


def float_feature(values: ArrayLike) -> bytes:
    """Encode a tf.train.Feature that holds a list of float32; values [n] are rounded to it."""
    return _field(2, _packed(np.asarray(values, "<f4").tobytes()))


def int64_feature(values: Iterable[int]) -> bytes:
    """Encode a tf.train.Feature that holds a list of int64."""
    return _field(3, _packed(b"".join(map(_varint, values))))


def encode_example(features: Mapping[str, bytes]) -> bytes:
    """Encode a tf.train.Example of features by name; they stand sorted, so that bytes are reproducible."""
    entries = (_field(1, _field(1, name.encode()) + _field(2, features[name])) for name in sorted(features))
    return _field(1, b"".join(entries))


def frame(record: bytes) -> bytes:
    """Return a record as it stands in a TFRecord file: uint64 length, its CRC, the record, its CRC."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _masked_crc(length), record, _masked_crc(record)))


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of data, 0 to 2^32 - 1.

    A CRC is linear: the remainder of a block is the XOR of what each of its bytes leaves at its distance from
    the end. numpy looks those up for many blocks together; only the chain from block to block is a loop.
    """
    crc = 0xFFFFFFFF
    whole = len(data) // _BLOCK * _BLOCK
    blocks = np.frombuffer(data, np.uint8, count=whole).reshape(-1, _BLOCK)
    for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
        indices = blocks[start : start + _BLOCKS_AT_ONCE] + _ROW_STARTS
        # None is out of range; "wrap" is the fastest way to look up.
        looked_up = _FLAT_REMAINDERS.take(indices, mode="wrap")
        # [blocks, _BLOCK] -> [blocks]
        for remainder in np.bitwise_xor.reduce(looked_up, axis=1).tolist():
            crc = remainder ^ _carried_over_block(crc)
    for byte in data[whole:]:
        crc = (crc >> 8) ^ _LAST_BYTE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _packed(payload: bytes) -> bytes:
    """Encode field 1, a list of numbers; protocol buffers leave an empty one out."""
    return _field(1, payload) if payload else b""


def _field(number: int, payload: bytes) -> bytes:
    return b"".join((_varint(number << 3 | _LENGTH_DELIMITED), _varint(len(payload)), payload))


def _varint(value: int) -> bytes:
    """Encode an integer seven bits a byte, low bits first; a negative one as its 64-bit two's complement."""
    value &= 0xFFFFFFFFFFFFFFFF
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _masked_crc(data: bytes) -> bytes:
    """Return the checksum as TFRecord stores it: rotated right by 15 bits, plus a constant."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _remainder_tables() -> np.ndarray:
    """Return uint32 [_BLOCK, 256]: what a byte at position i of a block leaves at the block's end."""
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
    """Return what the register so far leaves at a block's end: it acts as if on the block's first 4 bytes."""
    first, second, third, fourth = _FIRST_BYTES
    return first[crc & 0xFF] ^ second[crc >> 8 & 0xFF] ^ third[crc >> 16 & 0xFF] ^ fourth[crc >> 24]
