"""What the network is shown of a picture: the whole of it, or tiles; each reduced to a largest side.

The converter makes training images by these rules; evaluation, demo and export follow them, so that the network sees
the same pixels in training and in use. Without TensorFlow, for the converter has none.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

_MOST_CUT = 0.3  # of an object's area that the edge of a tile may cut off

Number = TypeVar("Number", int, np.ndarray)  # or a tensor


def reduced_side(side: Number, longer_side: Number, max_side: int) -> Number:
    """Return a side, pixels, of a picture whose `longer_side` is reduced to `max_side`; rounded, and 0 for a sliver.

    `side` and `longer_side` are integers or int32 tensors up to 65500, a JPEG's largest; `max_side` is up to 16384.
    """
    return (2 * side * max_side + longer_side) // (2 * longer_side)


def tile_windows(height: int, width: int, tile_size: int, tile_overlap: float) -> np.ndarray:
    """Return the tiles of a picture, int32 [T, 4] of ymin, xmin, ymax, xmax in pixels, ymax and xmax excluded.

    They are squares of side `tile_size`, or less where the picture is smaller, and lie evenly from edge to edge;
    neighbours share `tile_overlap` of their side or more.
    """
    rows, row_extent = _starts(height, tile_size, tile_overlap)
    columns, column_extent = _starts(width, tile_size, tile_overlap)
    starts = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    ends = np.add(starts, (row_extent, column_extent))
    return np.concatenate([starts, ends], axis=1).astype(np.int32)


def _starts(side: int, tile_size: int, tile_overlap: float) -> tuple[np.ndarray, int]:
    """Return where the tiles along a side begin, and how far each reaches, pixels."""
    extent = min(side, tile_size)
    stride = max(1, int(tile_size * (1 - tile_overlap)))
    last = -((extent - side) // stride)  # the number of the last tile
    return np.arange(last + 1) * (side - extent) // max(last, 1), extent


def is_cut(shown_area: Number, area: Number) -> Any:
    """Return whether a tile shows too little of an object, given the areas of the part and of the whole.

    Such an object is difficult there: training and evaluation leave it out. Areas are numbers, arrays or tensors.
    """
    return shown_area < (1 - _MOST_CUT) * area
