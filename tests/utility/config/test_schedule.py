"""Schedules of any length, and rates that suit a backbone, a start and a batch."""

import dataclasses

import pytest

from utility.config import checks, presets, schedule
from utility.config.settings import BACKBONES, Config, ScheduleConfig

VOC = ScheduleConfig()


def of_length(steps, settings=VOC):
    changed = schedule.of_length(settings, steps)
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
    preset = presets.preset(name).replace({"class_names": ("a",)})
    changes = schedule.of_length(preset.schedule, steps)
    checks.check(preset.replace(changes | {"schedule.max_number_of_steps": steps}))
    same = schedule.of_length(preset.schedule, preset.schedule.max_number_of_steps)
    assert preset.replace(same) == preset


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("pretrained", [False, True])
def test_rates_grow_with_the_batch(name, pretrained):
    one = Config().replace({"network.backbone": name})
    small, large = (
        schedule.suited_to_backbone(one.replace({"schedule.batch_size": size}), pretrained) for size in (8, 32)
    )
    assert large["schedule.learning_rate"] == 4 * small["schedule.learning_rate"]
    assert large["schedule.clip_gradient_norm"] == small["schedule.clip_gradient_norm"]


def test_the_published_recipe_suits_vgg():
    suited = schedule.suited_to_backbone(Config(), pretrained=True)
    assert suited == {
        "schedule.learning_rate": VOC.learning_rate,
        "schedule.clip_gradient_norm": VOC.clip_gradient_norm,
        "loss.localization_weight": 1.0,
    }


def test_the_localization_loss_counts_half_where_a_mobilenet_knows_photographs():
    weights = {
        (name, pretrained): schedule.suited_to_backbone(Config().replace({"network.backbone": name}), pretrained)[
            "loss.localization_weight"
        ]
        for name in BACKBONES
        for pretrained in (False, True)
    }
    assert {case for case, weight in weights.items() if weight == 0.5} == {("mobilenet_v1", True)}
    assert set(weights.values()) == {0.5, 1.0}


def told(**settings):
    return schedule.described(dataclasses.replace(Config(), schedule=ScheduleConfig(**settings)))


def test_it_is_told_in_a_line():
    assert told() == "learning rate 0.0001 to step 500, 0.001 to 80000, 0.0001 to 100000, 1e-05 to 120000"
    constant = told(decay_boundaries=(), lr_decay_factors=(1.0,), max_number_of_steps=7)
    assert constant == "learning rate 0.001 to step 7"
    late = told(max_number_of_steps=90_000)
    assert late == "learning rate 0.0001 to step 500, 0.001 to 80000, 0.0001 to 90000"
    floor = told(decay_boundaries=(0, 5), lr_decay_factors=(0.1, 1, 1e-9), max_number_of_steps=9)
    assert floor == "learning rate 0.001 to step 5, 1e-06 to 9"
    half = schedule.described(Config().replace({"loss.localization_weight": 0.5}))
    assert half == f"{told()}; location loss times 0.5"
    assert told(clip_gradient_norm=5.0) == f"{told()}; gradients clipped at a norm of 5"
