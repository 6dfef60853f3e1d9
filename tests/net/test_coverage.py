"""What is in the way of finding an object, on boxes made to measure; nearest default boxes against all of them."""

import numpy as np
import pytest

from net import coverage
from net.coverage import objects_of
from net.default_boxes import default_boxes
from preprocessing import box_ops
from tests.builders.configs import voc_config
from tests.builders.objects import example, squares
from utility.config import presets
from utility.config.feature_maps import boxes_per_cell, feature_maps

EXAMPLES = [
    example([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.2, 0.6], [-0.5, 0.5, 0.5, 1.5]], [1, 2, 3], size=(30, 40)),
    example([]),
    example([[0.3, 0.3, 0.6, 0.6], [1.2, 0.1, 1.4, 0.3]], [4, 5], [True, False]),
]


def test_objects_without_area_or_outside_do_not_count_and_difficult_ones_only_if_they_are_learnt():
    objects = objects_of(EXAMPLES, use_difficult=False)
    np.testing.assert_allclose(objects.boxes_yxyx, [[0.1, 0.1, 0.5, 0.5], [0, 0.5, 0.5, 1]])
    assert (objects.labels.tolist(), objects.images.tolist()) == ([1, 3], [0, 0])
    assert objects.sizes.tolist() == [[30, 40], [300, 400], [300, 400]]
    assert objects_of(EXAMPLES, use_difficult=True).labels.tolist() == [1, 3, 4]
    assert objects_of([], use_difficult=True).boxes_yxyx.shape == (0, 4)


FOUND, TINY = [0.4, 0.4, 0.6, 0.6], [0.5, 0.5, 0.515, 0.515]


def look_for(*examples, **values):
    return coverage.look_for(objects_of(examples, False), voc_config(**values))


def test_an_object_that_is_a_default_box_is_found_and_a_tiny_one_is_lost():
    center, size = np.split(default_boxes(voc_config()).cyxhw[4000], 2)
    found = look_for(example([np.concatenate([center - size / 2, center + size / 2]), TINY]))
    assert found.without_box.tolist() == found.too_small.tolist() == [False, True]
    assert found.shares() == (0.5, 0.5, 0.5, 0.0)


@pytest.mark.parametrize(("height", "width", "small"), [(0.25, 0.5, True), (0.5, 0.25, True), (0.5, 0.5, False)])
def test_a_side_that_is_min_size_is_too_small(height, width, small):
    """As in `detect`, which keeps what is above it."""
    found = look_for(example([[0, 0, height, width]]), detection__min_size=0.25)
    assert found.too_small.tolist() == [small]


def test_match_threshold_decides():
    boxes = example([[0.4, 0.4, 0.65, 0.6]])
    assert look_for(boxes, targets__match_threshold=0.99).without_box.all()
    assert not look_for(boxes, targets__match_threshold=0.5).without_box.any()


def test_objects_compete_within_an_image_alone():
    twin = [0.401, 0.4, 0.601, 0.6]
    other = [0.0, 0.0, 0.3, 0.3]
    found = look_for(example([FOUND, twin, other]), example([FOUND]))
    assert found.compete.tolist() == [True, True, False, False]


def test_training_says_so_where_a_tenth_is_lost(capsys):
    large = squares(0.3, count=18, images=9)
    coverage.log_if_many_are_lost([*large, example([TINY])], voc_config(), "look here")
    assert capsys.readouterr().out == ""
    coverage.log_if_many_are_lost([*large, example([TINY] * 2)], voc_config(), "look here")
    printed = capsys.readouterr().out
    assert printed.startswith("10 % of 20 objects in 10 images are hard to find: no default box overlaps 10 % by 0.5")
    assert printed.endswith("10 % are below --min_size=0.03; what helps: look here\n")
    coverage.log_if_many_are_lost([example([])], voc_config(), "look here")
    assert capsys.readouterr().out == ""


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
    found = coverage.nearest_boxes(boxes, config)
    in_frame, extent = anchors.frame.from_normalized(boxes), anchors.frame.pixel_extent
    iou = np.asarray(box_ops.iou(in_frame, anchors.corners_yxyx, extent))  # [N, K]
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
    assert coverage.nearest_boxes(np.zeros((0, 4), np.float32), voc_config()).indices.shape == (0, 30)
