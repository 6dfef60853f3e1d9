"""TFRecord files: records in frames with checksums, written and read without importing TensorFlow."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import google_crc32c

_NAME = re.compile(r".*\.(tfrecords?|records?)(-\d{5}-of-\d{5})?|.*-\d{5}-of-\d{5}", re.IGNORECASE)


def is_record_file(name: str) -> bool:
    """Tell whether a file holds TFRecords by its name."""
    return bool(_NAME.fullmatch(name))


def frame(record: bytes) -> bytes:
    """Return a record in the frame of a TFRecord file: uint64 length, its CRC, the record, its CRC."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, masked_crc(length), record, masked_crc(record)))


def masked_crc(data: bytes) -> bytes:
    """Return the CRC-32C of data as TFRecord stores it: rotated right by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record_spans(shard: str) -> tuple[list[tuple[int, int]], str]:
    """Return position and length, bytes, of each record in a file, and what is wrong after the last, '' for nothing.

    Only the lengths and their checksums are read, which takes a fraction of a second. A frame is uint64 length, uint32
    checksum, record, uint32 checksum.
    """
    spans: list[tuple[int, int]] = []
    position, size = 0, Path(shard).stat().st_size
    with Path(shard).open("rb") as file:
        while position < size:
            file.seek(position)
            head = file.read(12)
            if len(head) < 12 or masked_crc(head[:8]) != head[8:]:
                return spans, "its length is cut off or damaged"
            length = int.from_bytes(head[:8], "little")
            if position + 16 + length > size:
                return spans, "it is cut off"
            spans.append((position + 12, length))
            position += 16 + length
    return spans, ""
