"""The config: JSON both ways, checks, and what it derives."""

import dataclasses
import json

import pytest

from tests.builders.configs import voc_config
from utility.config import checks, config_file, presets
from utility.config.feature_maps import feature_maps
from utility.config.settings import ExtraLayer, NetworkConfig


def test_feature_maps_of_ssd300():
    maps = feature_maps(NetworkConfig())
    assert [m.grid for m in maps] == [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]
    assert [m.step for m in maps] == [(8, 8), (16, 16), (32, 32), (64, 64), (100, 100), (300, 300)]


def test_feature_maps_of_ssd512_follow_from_its_layers():
    stage = ExtraLayer
    layers = (
        stage(256, 512, 3, 2, "same"),
        *[stage(128, 256, 3, 2, "same")] * 3,
        stage(128, 256, 4, 1, 1),
    )
    maps = feature_maps(NetworkConfig(image_size=(512, 512), extra_layers=layers))
    assert [m.grid[0] for m in maps] == [64, 32, 16, 8, 4, 2, 1]
    assert [m.step[0] for m in maps] == [8, 16, 32, 64, 128, 256, 512]


def test_json_gives_the_config_back():
    config = voc_config(detection__max_detections=200, targets__coordinates="absolute")
    assert config_file.from_json(config_file.to_json(config)) == config
    assert isinstance(config_file.from_json(config_file.to_json(config)).network.extra_layers[0], ExtraLayer)


def test_saved_and_loaded(tmp_path):
    config_file.save(voc_config(), str(tmp_path / "model"))
    assert config_file.load(str(tmp_path / "model")) == voc_config()
    assert (tmp_path / "model/labels.txt").read_text().split() == list(voc_config().class_names)
    assert config_file.load(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d["loss"].update(wrong=1), "loss.wrong"),
        (lambda d: d["schedule"].update(batch_size="many"), "schedule.batch_size"),
        (lambda d: d["schedule"].update(batch_size=True), "schedule.batch_size"),
        (lambda d: d["network"].update(backbone="alexnet"), "network.backbone"),
        (lambda d: d["anchors"].update(scales=[0.1, 0.2]), "anchors.scales"),
        (lambda d: d["schedule"].update(learning_rate=float("nan")), "schedule.learning_rate"),
    ],
)
def test_a_wrong_file_is_refused_by_name(change, named):
    values = dataclasses.asdict(voc_config())
    change(values)
    with pytest.raises(ValueError, match=named) as error:
        config_file.from_json(json.dumps(values), "logs/config.json")
    assert "logs/config.json" in str(error.value)


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
def test_settings_that_cannot_work_are_named(setting, value):
    with pytest.raises(ValueError, match=setting.replace(".", r"\.")):
        checks.check(voc_config().replace({setting: value}))


def test_a_model_directory_of_another_network_is_refused_with_the_differences(tmp_path):
    config_file.save(voc_config(), str(tmp_path))
    config_file.check_same_model(voc_config(schedule__learning_rate=1.0, loss__weight_decay=0.0), str(tmp_path))
    other = voc_config(network__image_size=(512, 512)).replace({"class_names": ("cat", "dog")})
    with pytest.raises(ValueError, match=r"network\.image_size") as error:
        config_file.check_same_model(other, str(tmp_path))
    assert "class_names ('cat', 'dog')" in str(error.value) and str(tmp_path) in str(error.value)


def test_the_default_preset_is_sound():
    assert checks.check(presets.preset("ssd300_voc")).preset == "ssd300_voc"
    with pytest.raises(ValueError, match="--preset=ssd9000"):
        presets.preset("ssd9000")


def test_every_number_of_the_config_has_a_range():
    """Those that are left out are held against each other."""
    elsewhere = {"anchors.", "decay_boundaries", "lr_decay_factors", "neg_threshold", "end_learning_rate"}
    elsewhere |= {"extra_layers", "channel_means_rgb", "preset"}  # of any size
    settings = config_file.settings(voc_config())
    switches = {name for name, value in settings.items() if isinstance(value, bool)}
    unchecked = settings.keys() - checks._RANGES.keys() - switches
    assert [name for name in unchecked if not any(part in name for part in elsewhere)] == []
