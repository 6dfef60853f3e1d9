"""Default boxes against golden numbers, and the frame of absolute coordinates."""

import numpy as np
import pytest
import tensorflow as tf2

from net.default_boxes import default_boxes
from preprocessing import box_ops
from tests.builders.configs import voc_config

ANCHORS = default_boxes(voc_config())
ABSOLUTE = default_boxes(voc_config(targets__coordinates="absolute"))


def test_default_boxes_are_golden(golden):
    wanted = np.load(golden / "anchors.npz")
    assert ANCHORS.cyxhw.shape == (8732, 4) and ANCHORS.cyxhw.dtype == np.float32
    np.testing.assert_allclose(ANCHORS.cyxhw, wanted["center_yxhw"], atol=1e-4)
    np.testing.assert_allclose(ANCHORS.corners_yxyx, wanted["anchors"], atol=1e-4)


def test_absolute_frame_counts_both_ends():
    frame = ABSOLUTE.frame
    box = frame.from_normalized(tf2.constant([1 / 300, 1 / 300, 1.0, 1.0])).numpy()
    np.testing.assert_allclose(box, [0, 0, 299, 299], atol=1e-4)
    assert box_ops.area(tf2.constant(box), frame.pixel_extent).numpy() == pytest.approx(300 * 300)
    widths = ABSOLUTE.cyxhw[:, 2:] / ANCHORS.cyxhw[:, 2:]
    np.testing.assert_allclose(widths, 300, rtol=1e-5)
