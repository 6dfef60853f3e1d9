"""An invalid setting is rejected with its name."""

import dataclasses
import math
import re

import pytest

from tests.builders.configs import voc_config
from utility.config import checks, config_file
from utility.config.settings import ExtraLayer


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
        ("schedule.decay_boundaries", tuple(range(5000))),
    ],
)
def test_invalid_settings_are_named(setting, value):
    change = {"network.extra_layers": (value,)} if isinstance(value, ExtraLayer) else {setting: value}
    with pytest.raises(ValueError, match=setting.replace(".", r"\.")) as error:
        checks.check(voc_config().replace(change))
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("value", [1e308, 1e39, 1e-320, 1e-46, 1e-40, math.nan, math.inf, -math.inf, 5e38])
def test_a_float_is_checked_as_the_float32_that_it_becomes(value):
    settings = config_file.settings(voc_config())
    floats = {name for name, old in settings.items() if isinstance(next(checks.numbers_in(old), None), float)}
    numbers = [name for name in floats if name in checks.RANGES and not name.endswith("image_size")]
    assert len(numbers) > 25
    for name in numbers:
        old = settings[name]
        with pytest.raises(ValueError, match=re.escape(name)):
            checks.check(voc_config().replace({name: (value, *old[1:]) if isinstance(old, tuple) else value}))


def test_a_momentum_that_becomes_1_is_refused_and_the_end_of_a_range_is_not():
    with pytest.raises(ValueError, match=r"momentum=0\.99999999999: must be 0 or more, and below 1"):
        checks.check(voc_config(schedule__momentum=0.99999999999))
    checks.check(voc_config(network__depth_multiplier=0.01, schedule__learning_rate=3e38, schedule__momentum=0.0))


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 1e30, "lr_decay_factors": (1.0, 1.0, 1.0, 1e30)},
        {"learning_rate": 1e30, "bias_lr_factor": 1e30},
        {"learning_rate": 1e-30, "end_learning_rate": 0.0, "lr_decay_factors": (1.0, 1e-30, 1.0, 1.0)},
    ],
)
def test_products_of_learning_rates_are_checked_too(values):
    with pytest.raises(ValueError, match=r"learning_rate x lr_decay_factors x bias_lr_factor=1e[+-]30 x"):
        checks.check(voc_config().replace({f"schedule.{name}": value for name, value in values.items()}))


def test_every_number_of_the_config_has_a_range():
    settings = config_file.settings(voc_config())
    switches = {name for name, value in settings.items() if isinstance(value, bool)}
    unchecked = settings.keys() - {*checks.settings_with_range(), "network.extra_layers"} - switches
    assert unchecked == set()
    layer = {f"network.extra_layers.{name}" for name in dataclasses.asdict(ExtraLayer(8, 8))}
    assert layer <= checks.RANGES.keys()
