"""An invalid setting is rejected with its name."""

import math
import re

import pytest

from tests.builders.configs import voc_config
from utility.config import checks, config_file
from utility.config.settings import ExtraLayer
from utility.errors import UserError


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("schedule.learning_rate", 0.0),
        ("schedule.decay_boundaries", (5, 3, 9)),
        ("schedule.lr_decay_factors", (1.0,)),
        ("schedule.batch_size", 0),
        ("targets.match_threshold", 1.5),
        ("targets.neg_threshold", 0.7),
        ("targets.coordinates", "pixels"),
        ("loss.negative_ratio", -1.0),
        ("detection.nms_threshold", 0.0),
        ("class_names", ("cat", "cat")),
        ("network.image_size", (64, 64)),
        ("targets.prior_variances", (0.1, 0.1, 0.0, 0.2)),
        ("augment.contrast", (1.5, 0.5)),
        ("augment.contrast", (0.5, float("nan"))),
        ("augment.hue_degrees", 61.0),
        ("augment.crop_scale", (0.3, 1.1)),
        ("augment.min_ious", (0.1, 2.0)),
        ("detection.max_detections", 0),
        ("schedule.lr_decay_factors", (0.1, float("nan"), 0.1, 0.01)),
        ("schedule.lr_decay_factors", (0.1, -1.0, 0.1, 0.01)),
        ("class_names", ("a cat\nand a dog",)),
        ("class_names", ("",)),
        ("network.depth_multiplier", 1e-9),
        ("network.image_size", (10**6, 300)),
        ("network.extra_layers.stride", ExtraLayer(8, 8, stride=0)),
        ("network.extra_layers.padding", ExtraLayer(8, 8, padding="half")),
        ("anchors.ratios", ((1.0, math.nan),) * 6),
        ("anchors.offset", math.inf),
        ("schedule.batch_size", 2**31),
        ("schedule.decay_boundaries", (3, -1, 9)),
    ],
)
def test_invalid_settings_are_named(setting, value):
    change = {setting: value}
    if isinstance(value, ExtraLayer):
        part, setting = setting.rpartition(".")[2], "network.extra_layers[0]."
        change, setting = {"network.extra_layers": (value,)}, setting + part
    with pytest.raises(UserError, match=re.escape(setting)) as error:
        checks.check(voc_config().replace(change))
    assert len(str(error.value)) < 300


def numbers_in(value):
    """The float in a setting: itself, or the first of a tuple, which may hold tuples."""
    return numbers_in(value[0]) if isinstance(value, tuple) and value else value


def with_number(value, number):
    """The setting with another number in the place of the first."""
    return (with_number(value[0], number), *value[1:]) if isinstance(value, tuple) else number


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e39, -1e39])
def test_no_number_of_the_config_may_be_infinite_or_none(number):
    settings = config_file.settings(voc_config())
    numbers = {name: value for name, value in settings.items() if type(numbers_in(value)) in (int, float)}
    assert len(numbers) > 35
    for name, value in numbers.items():
        with pytest.raises(UserError, match=re.escape(name)):
            checks.check(voc_config().replace({name: with_number(value, number)}))


def test_the_ends_of_a_range():
    checks.check(voc_config(network__depth_multiplier=0.01, schedule__learning_rate=3e38, schedule__momentum=0.0))
    with pytest.raises(UserError, match=r"schedule\.momentum=1\.0: must be a number < 1"):
        checks.check(voc_config(schedule__momentum=1.0))


def test_a_switch_is_no_number_and_a_number_no_switch():
    for name, value in (("schedule.batch_size", True), ("schedule.momentum", False), ("loss.decay_biases", 1)):
        with pytest.raises(UserError, match=f"{name}={value}: must be"):
            checks.check(voc_config().replace({name: value}))
