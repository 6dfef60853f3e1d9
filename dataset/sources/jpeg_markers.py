"""The markers of a JPEG file: TensorFlow reads them to the end, Pillow only until the pixels are complete."""

from __future__ import annotations

import re

# Before a marker there may be more 0xff. Within compressed data, 0xff is written 0xff 0x00, and the markers 0xd0 to
# 0xd7 are a part of it. (xff+ would mean the same, but takes seven times as long.)
_MARKER = re.compile(rb"\xff\xff*([^\x00\xff\xd0-\xd7])", re.DOTALL)
_END_OF_IMAGE = 0xD9
_TABLES = frozenset({0xC4, 0xCC})
_FRAMES = frozenset(range(0xC0, 0xD0)) - _TABLES
# tables, scans, DNL, applications' data and comments (ITU T.81, table B.1)
_SEGMENTS = _TABLES | frozenset({0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})


def fault_of_markers(data: bytes) -> str:
    """Return what TensorFlow refuses in the markers of a JPEG that Pillow decodes, '' for nothing.

    A few corrupt pictures are refused that TensorFlow takes: with restart markers, libjpeg skips some unknown markers.
    """
    position, frames = 2, 0
    while marker := _MARKER.search(data, position):
        code = marker[1][0]
        frames += code in _FRAMES
        if code == _END_OF_IMAGE:
            return ""
        if code not in _SEGMENTS and (code not in _FRAMES or frames > 1):
            return f"its data is corrupt: the marker 0x{code:02x} is not one that may be at byte {marker.start()}"
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return "it ends without an end-of-image marker, as if it were cut off"
