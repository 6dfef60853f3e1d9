"""Presets: numbers of Caffe's scripts; training, detection and checkpoint with an eighth of the filters; schedules."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net import training
from net.default_boxes import default_boxes
from net.prediction import predict_pictures
from net.run_config import build, run_config
from tests.builders.tiny_ssd import quick_session
from utility.config import checks, config_file, presets
from utility.config.feature_maps import feature_maps
from utility.config.settings import BACKBONES, Config, ExtraLayer, ScheduleConfig

BOXES = {
    "ssd300_voc": 8732,
    "ssd300_voc_absolute": 8732,
    "ssd300_caffe": 8732,
    "ssd512_voc": 24564,
    "ssd300_coco": 8732,
    "ssd512_coco": 24564,
}


def narrow(name):
    """The preset with two classes and few filters, so that a test can train it."""
    config = presets.preset(name).replace({"class_names": ("cat", "dog"), "network.depth_multiplier": 0.125})
    return checks.check(config.replace({"schedule.batch_size": 1, "schedule.max_number_of_steps": 1}))


def pictures(config, count=1):
    """A grey picture with one object, as the input functions give it."""
    features = {
        "image": np.zeros((count, *config.network.image_size, 3), np.float32),
        "image_id": np.array(["picture"] * count),
        "size": np.full((count, 2), 100, np.int32),
    }
    labels = {
        "boxes_yxyx": np.array([[[0.2, 0.2, 0.7, 0.7]]] * count, np.float32),
        "labels": np.ones((count, 1), np.int64),
    }
    return tf.data.Dataset.from_tensors((features, labels))


def test_the_default_preset_is_valid():
    assert checks.check(presets.preset("ssd300_voc")).preset == "ssd300_voc"
    with pytest.raises(ValueError, match="--preset=ssd9000"):
        presets.preset("ssd9000")


def test_every_preset_is_tested():
    assert set(BOXES) == set(presets.PRESETS)


@pytest.mark.parametrize("name", BOXES)
def test_a_preset_has_the_default_boxes_of_its_script(name):
    assert len(default_boxes(narrow(name)).cyxhw) == BOXES[name]


@pytest.mark.parametrize("name", ["ssd300_voc_absolute", "ssd300_caffe", "ssd512_coco"])
def test_a_preset_trains_detects_and_loads_again(name, tmp_path):
    config = narrow(name)

    def estimator():
        run = run_config(str(tmp_path), quick_session(), checkpoint_steps=9)
        return build(config, run, "channels_last", log_every_n_steps=1)

    first = estimator()
    training.train(first, lambda: pictures(config), 1)
    assert first.get_variable_value("global_step") == 1
    checkpoint = tf.train.latest_checkpoint(str(tmp_path))
    found = list(predict_pictures(estimator(), lambda: pictures(config), checkpoint))
    assert len(found) == 1
    assert np.isfinite(found[0]["boxes_yxyx"]).all()
    assert found[0]["image_id"] == b"picture"


@pytest.mark.parametrize("name", BOXES)
def test_a_preset_is_saved_and_loaded(name, tmp_path):
    config_file.save(presets.preset(name), str(tmp_path))
    assert config_file.load(str(tmp_path)) == presets.preset(name)


def pixels(config):
    return [round(scale * config.network.image_size[0], 2) for scale in config.anchors.scales]


def steps_and_batch(config):
    schedule = config.schedule
    return [*schedule.decay_boundaries, schedule.max_number_of_steps], schedule.batch_size


def test_caffes_ssd300():
    config = presets.preset("ssd300_caffe")
    assert pixels(config) == [30, 60, 111, 162, 213, 264, 315]
    assert [layer.padding for layer in config.network.extra_layers] == [1, 1, "valid", "valid"]
    assert (config.schedule.bias_lr_factor, config.loss.decay_biases) == (2.0, False)
    assert config.network.channel_means_rgb == (123, 117, 104)
    assert (config.targets.use_difficult, config.detection.max_detections, config.detection.min_size) == (True, 200, 0)
    assert steps_and_batch(config) == ([80_000, 100_000, 120_000], 32)


def test_caffes_ssd512():
    config = presets.preset("ssd512_voc")
    maps = feature_maps(config.network)
    assert [feature_map.grid for feature_map in maps] == [(side, side) for side in (64, 32, 16, 8, 4, 2, 1)]
    assert [feature_map.step[0] for feature_map in maps] == [8, 16, 32, 64, 128, 256, 512]
    assert pixels(config) == [35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6]
    assert config.network.extra_layers[-1] == ExtraLayer(128, 256, kernel=4, padding=1)
    assert config.schedule.batch_size == 24


@pytest.mark.parametrize(
    ("name", "sizes", "schedule"),
    [
        ("ssd300_coco", [21, 45, 99, 153, 207, 261, 315], ([500, 280_000, 360_000, 400_000], 32)),
        (
            "ssd512_coco",
            [20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72],
            ([500, 360_000, 480_000, 520_000], 24),
        ),
    ],
)
def test_caffes_coco(name, sizes, schedule):
    config = presets.preset(name)
    assert pixels(config) == sizes
    assert steps_and_batch(config) == schedule


def test_absolute_warms_up_for_1000_steps_and_drops_boxes_below_4_pixels():
    config = presets.preset("ssd300_voc_absolute")
    assert config.targets.coordinates == "absolute"
    assert config.schedule.decay_boundaries[0] == 1000
    assert config.detection.min_size * 300 == pytest.approx(4)


# Schedules of any length, and rates that suit a backbone, a start and a batch.

VOC = ScheduleConfig()


def of_length(steps, settings=VOC):
    changed = presets.of_length(settings, steps)
    return changed["schedule.decay_boundaries"], changed["schedule.lr_decay_factors"]


@pytest.mark.parametrize(
    ("steps", "boundaries", "factors"),
    [
        (120_000, (500, 80_000, 100_000), (0.1, 1.0, 0.1, 0.01)),
        (60_000, (500, 40_000, 50_000), (0.1, 1.0, 0.1, 0.01)),
        (1200, (60, 800, 1000), (0.1, 1.0, 0.1, 0.01)),
        (6, (0, 4, 5), (0.1, 1.0, 0.1, 0.01)),
        (2, (0, 1), (0.1, 1.0, 0.01)),
        (1, (0,), (0.1, 0.01)),
    ],
)
def test_a_shorter_training_decays_at_the_same_parts(steps, boundaries, factors):
    assert of_length(steps) == (boundaries, factors)


@pytest.mark.parametrize("name", presets.PRESETS)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 777, 10**6])
def test_every_preset_has_a_valid_schedule_of_every_length(name, steps):
    config = presets.preset(name).replace({"class_names": ("a",)})
    changes = presets.of_length(config.schedule, steps)
    checks.check(config.replace(changes | {"schedule.max_number_of_steps": steps}))
    same = presets.of_length(config.schedule, config.schedule.max_number_of_steps)
    assert config.replace(same) == config


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("pretrained", [False, True])
def test_rates_grow_with_the_batch(name, pretrained):
    one = Config().replace({"network.backbone": name})
    small, large = (
        presets.suited_to_backbone(one.replace({"schedule.batch_size": size}), pretrained) for size in (8, 32)
    )
    assert large["schedule.learning_rate"] == 4 * small["schedule.learning_rate"]
    assert large["schedule.clip_gradient_norm"] == small["schedule.clip_gradient_norm"]


def test_the_published_recipe_suits_vgg():
    suited = presets.suited_to_backbone(Config(), pretrained=True)
    assert suited == {
        "schedule.learning_rate": VOC.learning_rate,
        "schedule.clip_gradient_norm": VOC.clip_gradient_norm,
        "loss.localization_weight": 1.0,
    }


def test_the_localization_loss_counts_half_where_a_mobilenet_knows_photographs():
    weights = {
        (name, pretrained): presets.suited_to_backbone(Config().replace({"network.backbone": name}), pretrained)[
            "loss.localization_weight"
        ]
        for name in BACKBONES
        for pretrained in (False, True)
    }
    assert {case for case, weight in weights.items() if weight == 0.5} == {("mobilenet_v1", True)}
    assert set(weights.values()) == {0.5, 1.0}


def told(**settings):
    return presets.described(dataclasses.replace(Config(), schedule=ScheduleConfig(**settings)))


def test_it_is_told_in_a_line():
    assert told() == "learning rate 0.0001 to step 500, 0.001 to 80000, 0.0001 to 100000, 1e-05 to 120000"
    constant = told(decay_boundaries=(), lr_decay_factors=(1.0,), max_number_of_steps=7)
    assert constant == "learning rate 0.001 to step 7"
    late = told(max_number_of_steps=90_000)
    assert late == "learning rate 0.0001 to step 500, 0.001 to 80000, 0.0001 to 90000"
    floor = told(decay_boundaries=(0, 5), lr_decay_factors=(0.1, 1, 1e-9), max_number_of_steps=9)
    assert floor == "learning rate 0.001 to step 5, 1e-06 to 9"
    half = presets.described(Config().replace({"loss.localization_weight": 0.5}))
    assert half == f"{told()}; location loss times 0.5"
    assert told(clip_gradient_norm=5.0) == f"{told()}; gradients clipped at a norm of 5"
