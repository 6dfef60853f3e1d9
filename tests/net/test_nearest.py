"""The nearest default boxes against the IoU with all default boxes."""

import numpy as np
import pytest

from net import coverage
from net.coverage import nearest_finder
from net.default_boxes import default_boxes
from preprocessing import box_ops
from tests.builders.configs import voc_config
from utility.config import presets
from utility.config.feature_maps import boxes_per_cell, feature_maps

CONFIGS = {
    **presets.PRESETS,
    "wide": voc_config(network__image_size=(304, 517), anchors__offset=0.3),
    "mobilenet_v1": voc_config(network__backbone="mobilenet_v1"),
}


def random_boxes(count, largest, seed=0):
    """Boxes [count, 4] of all sizes, some of them beyond the image or without area."""
    random = np.random.RandomState(seed)
    centers, sides = random.uniform(-0.05, 1.05, (count, 2)), random.uniform(0, largest, (count, 2)) ** 2
    sides[::10, 0] = 0
    return np.concatenate([centers - sides / 2, centers + sides / 2], axis=1).astype(np.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_no_default_box_of_a_shape_overlaps_more_than_the_nearest(name, monkeypatch):
    monkeypatch.setattr(coverage, "_AT_ONCE", 70)  # three parts
    config = CONFIGS[name]
    boxes, anchors = np.concatenate([random_boxes(100, 1.0), random_boxes(60, 0.3, seed=1)]), default_boxes(config)
    with nearest_finder() as find:
        found = find(boxes, config)
    in_frame, extent = anchors.frame.from_normalized(boxes), anchors.frame.pixel_extent
    iou = np.asarray(box_ops.iou(in_frame, anchors.corners(), extent))  # [N, K]
    assert found.indices.shape == found.ious.shape == (160, sum(boxes_per_cell(config.anchors)))
    np.testing.assert_allclose(found.ious, np.take_along_axis(iou, found.indices, axis=1), atol=1e-6)
    first, column = 0, 0
    for grid, shapes in zip(feature_maps(config.network), boxes_per_cell(config.anchors), strict=True):
        last = first + grid.grid[0] * grid.grid[1] * shapes
        best = iou[:, first:last].reshape(160, -1, shapes).max(axis=1)
        np.testing.assert_allclose(found.ious[:, column : column + shapes], best, atol=1e-6)
        first, column = last, column + shapes
    assert first == len(anchors.cyxhw)


def test_nothing_is_found_for_no_object():
    with nearest_finder() as find:
        assert find(np.zeros((0, 4), np.float32), voc_config()).indices.shape == (0, 30)
