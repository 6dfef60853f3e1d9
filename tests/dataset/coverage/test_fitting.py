"""Fitted scales: in order, apart, and better than those they start from."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from net import advice
from net.coverage import augmented, nearest_finder
from tests.builders.configs import voc_config
from tests.dataset.coverage.builders import square_objects
from utility.config import checks, presets


def share(boxes, config):
    with nearest_finder() as find:
        return (find(boxes, config).ious.max(axis=1) >= config.targets.match_threshold).mean()


def fitted(shown, in_training, config):
    with nearest_finder() as find:
        return advice.fitted_scales(shown, in_training, config, find)


@pytest.mark.parametrize("preset", ["ssd300_voc", "ssd512_voc"])
def test_small_objects_that_no_default_box_overlaps_are_overlapped_after_the_fit(preset):
    config = presets.preset(preset)
    objects = square_objects(20 / config.network.image_size[0], count=100)
    scales = fitted(objects.boxes_yxyx, augmented(objects, config), config)
    after = checks.check(config.replace({"anchors.scales": scales}))
    assert share(objects.boxes_yxyx, config) == 0 and share(objects.boxes_yxyx, after) > 0.95
    assert min(high / low for low, high in itertools.pairwise(scales)) > 1.14


def test_what_the_augmentation_makes_counts_half():
    shown, larger = square_objects(0.05, count=100).boxes_yxyx, square_objects(0.9, count=100, seed=1).boxes_yxyx
    config = voc_config(anchors__scales=(0.2, 0.25, 0.3, 0.35, 0.4, 0.46, 0.53))
    both = config.replace({"anchors.scales": fitted(shown, larger, config)})
    assert share(larger, both) == 1 and share(shown, both) > share(shown, config)
    none = np.zeros((0, 4), np.float32)
    assert fitted(shown, none, config) == fitted(shown, none, config)


def test_a_fit_does_not_lose_what_the_scales_of_a_preset_had():
    boxes = np.concatenate([square_objects(side, count=40).boxes_yxyx for side in (0.1, 0.2, 0.4, 0.8)])
    config = voc_config()
    assert share(boxes, config) == 1
    assert share(boxes, config.replace({"anchors.scales": fitted(boxes, boxes, config)})) > 0.98


@given(st.lists(st.integers(0, 48), min_size=7, max_size=8), st.integers(1, 6))
def test_starts_are_apart_and_in_range(steps, apart):
    moved = advice._apart(np.sort(steps), apart)
    assert moved[0] >= 0 and moved[-1] < advice._STEPS
    assert min(high - low for low, high in itertools.pairwise(moved)) >= apart
