"""Reduced sides and tiles, as plain Python has them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.views import reduced_side, tile_windows

SIDES = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("size", "max_side", "reduced"),
    [
        ((3000, 4000), 640, (480, 640)),
        ((4000, 3000), 640, (640, 480)),
        ((667, 1000), 640, (427, 640)),
        ((1, 999), 64, (0, 64)),
    ],
)  # fmt: skip
def test_the_longer_side_becomes_the_largest_and_the_other_keeps_the_ratio(size, max_side, reduced):
    assert tuple(reduced_side(side, max(size), max_side) for side in size) == reduced


def test_the_largest_sides_stay_int32():
    assert reduced_side(np.array([65535], np.int32), np.array([65535], np.int32), 16383).tolist() == [16383]


def test_tiles_of_a_picture_of_two_by_two_and_a_half():
    assert tile_windows(400, 500, 200, 0.0).tolist() == [
        [0, 0, 200, 200], [0, 150, 200, 350], [0, 300, 200, 500],
        [200, 0, 400, 200], [200, 150, 400, 350], [200, 300, 400, 500],
    ]  # fmt: skip


def test_a_picture_that_is_smaller_is_one_tile():
    assert tile_windows(30, 40, 200, 0.2).tolist() == [[0, 0, 30, 40]]
    assert tile_windows(30, 240, 200, 0.2).tolist() == [[0, 0, 30, 200], [0, 40, 30, 240]]


@given(SIDES, SIDES, st.integers(32, 2000), st.floats(0, 0.75))
def test_tiles_cover_the_picture_and_overlap(height, width, size, overlap):
    windows = tile_windows(height, width, size, overlap)
    assert windows.dtype == np.int32
    for start, end, side in ((0, 2, height), (1, 3, width)):
        intervals = sorted({(window[start], window[end]) for window in windows.tolist()})
        assert intervals[0][0] == 0 and intervals[-1][1] == side
        assert {last - first for first, last in intervals} == {min(size, side)}
        for (_, previous), (following, _) in itertools.pairwise(intervals):
            assert previous - following >= int(size * overlap) - 1
