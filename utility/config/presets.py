"""The named configurations of `--preset`, and the schedule and loss that suit where no published recipe fits."""

from __future__ import annotations

from typing import Any

from utility.config.settings import BACKBONES, Config, ExtraLayer, ScheduleConfig
from utility.errors import UserError

_CONV8, _CONV9 = ExtraLayer(256, 512, stride=2, padding=1), ExtraLayer(128, 256, stride=2, padding=1)  # Caffe's padding
_SQUARE_TO_2, _SQUARE_TO_3 = (1, 2, 1 / 2), (1, 2, 3, 1 / 2, 1 / 3)


def _scales(pixels: tuple[float, ...], side: int) -> tuple[float, ...]:
    return tuple(size / side for size in pixels)


_CAFFE_DETECTION = {"detection.min_size": 0.0, "detection.nms_topk": 400, "detection.max_detections": 200}

# examples/ssd/ssd_pascal_512.py; the warm-up is this project's.
_512: dict[str, Any] = {
    "network.image_size": (512, 512),
    "network.extra_layers": (_CONV8, *[_CONV9] * 3, ExtraLayer(128, 256, kernel=4, padding=1)),  # conv12: 2 -> 1
    "anchors.scales": _scales((35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6), 512),
    "anchors.ratios": (_SQUARE_TO_2, *[_SQUARE_TO_3] * 4, _SQUARE_TO_2, _SQUARE_TO_2),
    "schedule.batch_size": 24,
}

# examples/ssd/ssd_coco.py and ssd_coco_512.py; COCO has many small objects, so detections have no minimum size.
_COCO: dict[str, Any] = {
    "anchors.scales": _scales((21, 45, 99, 153, 207, 261, 315), 300),
    "schedule.max_number_of_steps": 400_000,
    "schedule.decay_boundaries": (500, 280_000, 360_000),
    **_CAFFE_DETECTION,
}
_COCO_512: dict[str, Any] = {
    **_512,
    **_COCO,
    "anchors.scales": _scales((20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72), 512),
    "schedule.max_number_of_steps": 520_000,
    "schedule.decay_boundaries": (500, 360_000, 480_000),
}

# each preset by its differences from the defaults in settings.py
_CHANGES: dict[str, dict[str, Any]] = {
    "ssd300_voc": {},
    # Boxes in inclusive pixels, as in the VOC devkit; the reference's branch AbsoluteCoord.
    "ssd300_voc_absolute": {
        "targets.coordinates": "absolute",
        "schedule.decay_boundaries": (1000, 80_000, 100_000),
        "detection.min_size": 4 / 300,
    },
    # examples/ssd/ssd_pascal.py of the paper's authors, the model SSD300* (77.2 %).
    "ssd300_caffe": {
        "network.extra_layers": (_CONV8, _CONV9, ExtraLayer(128, 256), ExtraLayer(128, 256)),
        "network.channel_means_rgb": (123.0, 117.0, 104.0),
        "anchors.scales": _scales((30, 60, 111, 162, 213, 264, 315), 300),
        "targets.use_difficult": True,
        "loss.scale_decay_factor": 1.0,
        "loss.decay_biases": False,
        "schedule.bias_lr_factor": 2.0,
        "schedule.decay_boundaries": (80_000, 100_000),
        "schedule.lr_decay_factors": (1.0, 0.1, 0.01),
        **_CAFFE_DETECTION,
    },
    "ssd512_voc": _512,
    "ssd300_coco": _COCO,
    "ssd512_coco": _COCO_512,
}
PRESETS = {name: Config(preset=name).replace(changes) for name, changes in _CHANGES.items()}

# For the demo, only a few detections with a high score; numbers of the reference.
DEMO = {"detection.select_threshold": 0.2, "detection.keep_topk": 200, "detection.nms_topk": 20}


def preset(name: str) -> Config:
    """Return the preset of a name; a UserError lists the available presets."""
    if name not in PRESETS:
        raise UserError(f"--preset={name}: there is no such preset; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def of_length(schedule: ScheduleConfig, steps: int) -> dict[str, tuple]:
    """Return `decay_boundaries` and `lr_decay_factors` of a training of so many steps, as changes to a config.

    The rate decays at the same parts of the whole. A warm-up, after which the rate rises, keeps its number of steps,
    but is at most a twentieth of the whole. Of boundaries that fall on one step, the last counts.
    """
    factors, boundaries = schedule.lr_decay_factors, []
    for boundary, before, after in zip(schedule.decay_boundaries, factors[:-1], factors[1:], strict=True):
        part = steps * boundary // schedule.max_number_of_steps
        boundaries.append(min(boundary, steps // 20) if after > before else part)
    kept = [number for number, step in enumerate(boundaries) if step not in boundaries[number + 1 :]]
    return {
        "schedule.decay_boundaries": tuple(boundaries[number] for number in kept),
        "schedule.lr_decay_factors": (factors[kept[0]] if kept else factors[-1], *(factors[n + 1] for n in kept)),
    }


def suited_to_backbone(config: Config, pretrained: bool) -> dict[str, float]:
    """Return rate, clipping and localization weight for the backbone, its start and the batch size, as changes.

    The rate grows with the batch: arXiv 1706.02677, section 2.1.
    """
    backbone = BACKBONES[config.network.backbone]
    recipe = backbone.pretrained if pretrained else backbone.random
    return {
        "schedule.learning_rate": recipe.learning_rate * config.schedule.batch_size / 32,
        "schedule.clip_gradient_norm": recipe.clip_gradient_norm,
        "loss.localization_weight": recipe.localization_weight,
    }


def described(config: Config) -> str:
    """Return its course in a line: `learning rate 0.001 to step 54, 0.01 to 730; gradients clipped at a norm of 20`."""
    schedule, weight = config.schedule, config.loss.localization_weight
    last, norm = schedule.max_number_of_steps, schedule.clip_gradient_norm
    ends = [min(boundary, last) for boundary in (*schedule.decay_boundaries, last)]
    spans = zip(schedule.rates, [0, *ends], ends, strict=False)
    parts = [f"{rate:.3g} to {end}" for rate, start, end in spans if start < end]
    clipping = f"; gradients clipped at a norm of {norm:g}" if norm else ""
    weighting = f"; location loss times {weight:g}" if weight != 1.0 else ""
    return f"learning rate {', '.join(parts)}".replace(" to ", " to step ", 1) + clipping + weighting
