"""An invalid setting is rejected with its name."""

import pytest

from tests.builders.configs import voc_config
from utility.config import checks, config_file


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
    ],
)
def test_invalid_settings_are_named(setting, value):
    with pytest.raises(ValueError, match=setting.replace(".", r"\.")):
        checks.check(voc_config().replace({setting: value}))


def test_every_number_of_the_config_has_a_range():
    """Except those that are compared with each other."""
    compared = {"anchors.", "decay_boundaries", "lr_decay_factors", "neg_threshold", "end_learning_rate"}
    compared |= {"extra_layers", "channel_means_rgb", "preset"}  # of any size
    settings = config_file.settings(voc_config())
    switches = {name for name, value in settings.items() if isinstance(value, bool)}
    unchecked = settings.keys() - checks._RANGES.keys() - switches
    assert [name for name in unchecked if not any(part in name for part in compared)] == []
