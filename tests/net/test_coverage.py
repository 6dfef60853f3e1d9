"""Which objects training can find: those that default boxes overlap enough."""

import numpy as np
import pytest

from net import coverage
from net.coverage import augmented, nearest_finder, objects_of
from net.default_boxes import default_boxes
from preprocessing import box_ops
from tests.builders.configs import voc_config
from tests.builders.objects import example, square_objects, squares
from utility.config import presets
from utility.config.feature_maps import boxes_per_cell, feature_maps
from utility.config.settings import NO_AUGMENTATION

FOUND, TINY = [0.4, 0.4, 0.6, 0.6], [0.5, 0.5, 0.515, 0.515]


def look_for(*examples, **values):
    config = voc_config(**values)
    with nearest_finder() as find:
        return coverage.look_for(objects_of(examples, False), config, find)


def test_an_object_that_is_a_default_box_is_found_and_a_tiny_one_is_lost():
    center, size = np.split(default_boxes(voc_config()).cyxhw[4000], 2)
    found = look_for(example([np.concatenate([center - size / 2, center + size / 2]), TINY]))
    assert found.without_box.tolist() == found.too_small.tolist() == [False, True]
    assert found.shares() == (0.5, 0.5, 0.0, 0.5)


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


def test_the_table_has_each_class_and_all():
    config, examples = voc_config(), [example([FOUND, TINY, FOUND], [2, 7, 7])]
    objects = objects_of(examples, False)
    with nearest_finder() as find:
        lines = coverage.lines(objects, coverage.look_for(objects, config, find), config, ("cat", "dog"))
    assert lines[0].split() == ["class", "objects", "no", "box", "by", "0.5", "below", "0.03", "either", "compete"]
    cells = [line.replace(" %", "").split() for line in lines[1:]]
    assert cells[0] == ["2", "dog", "1", "0.0", "0.0", "0.0", "100.0"]
    assert cells[1] == ["7", "class", "7", "2", "50.0", "50.0", "50.0", "50.0"]
    assert cells[2] == ["all", "3", "33.3", "33.3", "33.3", "66.7"]
    assert len({len(line) for line in lines}) == 1


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


# --- the nearest default boxes, against the IoU with all of them -----------------------------------------------------


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


# --- the objects of a data set ---------------------------------------------------------------------------------------


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


def test_a_sample_has_whole_images_and_no_more_than_needed():
    objects = square_objects(0.2, count=60, images=20)  # 3 an image
    sample = objects.sample(objects=10, images=15)
    assert len(sample.labels) == 12 and len(np.unique(sample.images)) == 4
    assert len(objects.sample(objects=1000, images=15).labels) == 45
    assert len(objects.sample(objects=1000, images=1000).labels) == 60


def test_augmented_objects_are_those_of_training():
    objects = square_objects(0.2, count=200, images=100)
    same = augmented(objects, voc_config(augment=NO_AUGMENTATION))
    np.testing.assert_allclose(same, objects.boxes_yxyx, atol=1e-5)
    sides = (boxes := augmented(objects, voc_config()))[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0 and boxes.max() <= 1 and sides.min() > 0
    assert sides.min() < 0.1 and sides.max() > 0.4  # zoomed out, and cropped
