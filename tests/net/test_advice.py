"""The advice: fitted scales, and flags that, pasted, do what the line says."""

import itertools
import re

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import train_ssd
from net import advice, coverage
from net.advice import augmented, fitted_scales
from net.coverage import objects_of
from tests.builders.configs import voc_config
from tests.builders.objects import example, square_objects
from utility.config import checks, presets
from utility.config.settings import NO_AUGMENTATION
from utility.flags import NETWORK, TRAINING, asked_config

NAMES = ("cat", "dog")


def report(objects, **values):
    return advice.report(objects, voc_config(class_names=NAMES, **values), NAMES)


@pytest.fixture
def pasted():
    """Return a function from flags to the config that train_ssd.py makes of them."""
    if "preset" not in flags.FLAGS:
        train_ssd.define_flags()

    def config(line):
        with flagsaver.flagsaver():
            flags.FLAGS(["train_ssd.py", "--batch_size=1", *line.split()])
            return asked_config(NAMES, NETWORK, TRAINING)

    yield config
    flags.FLAGS.unparse_flags()


@pytest.mark.parametrize("given", ["", "--min_size=0.2 --anchor_scales=.2,.3,.4,.5,.6,.7,.8 --match_threshold=.6"])
def test_flags_of_each_line_find_what_it_says_and_more_than_the_lines_before(pasted, given):
    objects = square_objects(0.025, count=100)
    printed = "\n".join(advice.report(objects, pasted(given), NAMES))
    rows = re.findall(r"^ *([\d.]+) % +([\d.]+) % +[\d.]+ % +x ([\d.]+)  (.*)$", printed, re.MULTILINE)
    lost, compete, pixels, added = (list(column) for column in zip(*rows, strict=True))
    assert (lost[0], added[0]) == ("100.0", "none: as it is") and len(rows) > 2
    found = [coverage.look_for(objects, pasted(f"{given} {more}")).shares() for more in added[1:]]
    assert [f"{100 * shares.lost:.1f}" for shares in found] == lost[1:]
    assert [f"{100 * shares.compete:.1f}" for shares in found] == compete[1:]
    assert (lost, pixels) == (sorted(lost, key=float, reverse=True), sorted(pixels, key=float))
    assert any("--anchor_scales=" in more and "--min_size=0.01" in more for more in added)


def test_where_all_is_found_nothing_is_advised():
    lines = report(square_objects(0.3))
    assert lines[-1] == "no preset, input size or scales that were tried find 2 % more of them"
    assert (
        "--preset=ssd300_voc --backbone=mobilenet_v1, input 300x300"
        in report(square_objects(0.3), network__backbone="mobilenet_v1")[0]
    )


def test_what_no_network_finds_is_said():
    lines = report(objects_of([example([[0.1, 0.1, 0.9, 0.11]], [1])], False))
    assert "--tile_size" in lines[-1]


def test_a_set_without_objects():
    assert report(objects_of([example([])], False)) == [
        "no object to look for with --preset=ssd300_voc --backbone=vgg16, input 300x300"
    ]


def test_the_table_has_each_class_and_all():
    found, tiny = [0.4, 0.4, 0.6, 0.6], [0.5, 0.5, 0.515, 0.515]
    config, examples = voc_config(), [example([found, tiny, found], [2, 7, 7])]
    objects = objects_of(examples, False)
    lines = advice.lines_by_class(objects, coverage.look_for(objects, config), config, ("cat", "dog"))
    assert lines[0].split() == ["class", "objects", "no", "box", "by", "0.5", "below", "0.03", "either", "compete"]
    cells = [line.replace(" %", "").split() for line in lines[1:]]
    assert cells[0] == ["2", "dog", "1", "0.0", "0.0", "0.0", "100.0"]
    assert cells[1] == ["7", "class", "7", "2", "50.0", "50.0", "50.0", "50.0"]
    assert cells[2] == ["all", "3", "33.3", "33.3", "33.3", "66.7"]
    assert len({len(line) for line in lines}) == 1


def test_a_sample_has_whole_images_and_no_more_than_needed():
    objects = square_objects(0.2, count=60, images=20)  # 3 an image
    few = advice.sample(objects, 10, images=15)
    assert len(few.labels) == 12 and len(np.unique(few.images)) == 4
    assert len(advice.sample(objects, 1000, images=15).labels) == 45
    assert len(advice.sample(objects, 1000, images=1000).labels) == 60


def test_augmented_objects_are_those_of_training():
    objects = square_objects(0.2, count=200, images=100)
    same = augmented(objects, voc_config(augment=NO_AUGMENTATION))
    np.testing.assert_allclose(same, objects.boxes_yxyx, atol=1e-5)
    sides = (boxes := augmented(objects, voc_config()))[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0 and boxes.max() <= 1 and sides.min() > 0
    assert sides.min() < 0.1 and sides.max() > 0.4  # zoomed out, and cropped


def share(boxes, config):
    return (coverage.nearest_boxes(boxes, config).ious.max(axis=1) >= config.targets.match_threshold).mean()


@pytest.mark.parametrize("preset", ["ssd300_voc", "ssd512_voc"])
def test_small_objects_that_no_default_box_overlaps_are_overlapped_after_the_fit(preset):
    config = presets.preset(preset)
    objects = square_objects(20 / config.network.image_size[0], count=100)
    scales = fitted_scales(objects.boxes_yxyx, augmented(objects, config), config)
    after = checks.check(config.replace({"anchors.scales": scales}))
    assert share(objects.boxes_yxyx, config) == 0 and share(objects.boxes_yxyx, after) > 0.95
    assert min(high / low for low, high in itertools.pairwise(scales)) > 1.14


def test_what_the_augmentation_makes_counts_half():
    shown, larger = square_objects(0.05, count=100).boxes_yxyx, square_objects(0.9, count=100, seed=1).boxes_yxyx
    config = voc_config(anchors__scales=(0.2, 0.25, 0.3, 0.35, 0.4, 0.46, 0.53))
    both = config.replace({"anchors.scales": fitted_scales(shown, larger, config)})
    assert share(larger, both) == 1 and share(shown, both) > share(shown, config)
    none = np.zeros((0, 4), np.float32)
    assert fitted_scales(shown, none, config) == fitted_scales(shown, none, config)


def test_a_fit_does_not_lose_what_the_scales_of_a_preset_had():
    boxes = np.concatenate([square_objects(side, count=40).boxes_yxyx for side in (0.1, 0.2, 0.4, 0.8)])
    config = voc_config()
    assert share(boxes, config) == 1
    assert share(boxes, config.replace({"anchors.scales": fitted_scales(boxes, boxes, config)})) > 0.98
