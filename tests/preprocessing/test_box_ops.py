"""Box geometry against plain Python."""

import numpy as np
import pytest
import tensorflow as tf2
from hypothesis import given
from hypothesis import strategies as st

from preprocessing import box_ops

COORDINATE = st.integers(-400, 400).map(lambda eighths: eighths / 8)
BOXES = st.lists(st.tuples(*[COORDINATE] * 4), min_size=1, max_size=5)


def plain_area(box, offset):
    return max(box[2] - box[0] + offset, 0) * max(box[3] - box[1] + offset, 0)


def plain_iou(a, b, offset):
    height = min(a[2], b[2]) - max(a[0], b[0]) + offset
    width = min(a[3], b[3]) - max(a[1], b[1]) + offset
    overlap = max(height, 0) * max(width, 0)
    union = plain_area(a, offset) + plain_area(b, offset) - overlap
    return overlap / union if union else 0.0


@given(BOXES, BOXES, st.sampled_from([0.0, 1.0]))
def test_iou_agrees_with_plain_python(a, b, offset):
    a = [(min(p[0], p[2]), min(p[1], p[3]), max(p[0], p[2]), max(p[1], p[3])) for p in a]
    b = [(min(p[0], p[2]), min(p[1], p[3]), max(p[0], p[2]), max(p[1], p[3])) for p in b]
    found = box_ops.iou(tf2.constant(a), tf2.constant(b), offset).numpy()
    wanted = np.array([[plain_iou(p, q, offset) for q in b] for p in a])
    np.testing.assert_allclose(found, wanted, atol=2e-3)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_iou_of_known_boxes(offset):
    boxes = tf2.constant([[0.0, 0, 9, 9], [0, 0, 9, 4], [20, 20, 29, 29], [5, 5, 5, 9], [9, 9, 0, 0]])
    found = box_ops.iou(boxes, boxes, offset).numpy()
    assert found[0, 0] == 1
    assert found[0, 1] == pytest.approx(0.5 if offset else 4 / 9)
    assert found[0, 2] == 0
    assert found[3, 3] == offset  # no width: nothing as an interval, a row of pixels when inclusive
    assert found[4, 4] == 0 and np.isfinite(found).all()


def test_degenerate_boxes():
    boxes = tf2.constant([[0.0, 0, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1], [1, 0, 0, 1]])
    assert box_ops.is_degenerate(boxes).numpy().tolist() == [False, True, True, True]


def test_clip_cuts_at_the_window():
    boxes = tf2.constant([[[-1.0, 0.5, 0.5, 2], [2, 2, 3, 3]]])
    clipped = box_ops.clip(boxes, tf2.constant([0.0, 0, 1, 1])).numpy()
    assert clipped.tolist() == [[[0, 0.5, 0.5, 1], [1, 1, 1, 1]]]


@given(BOXES, st.sampled_from([0.0, 1.0]))
def test_centre_and_corners_are_inverse(boxes, offset):
    centers = box_ops.to_center(tf2.constant(boxes), offset)
    np.testing.assert_allclose(box_ops.to_corners(centers, offset).numpy(), boxes, atol=1e-4)


def test_centre_of_an_inclusive_box():
    assert box_ops.to_center(tf2.constant([2.0, 3, 5, 3]), 1.0).numpy().tolist() == [3.5, 3, 4, 1]
