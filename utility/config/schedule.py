"""A schedule and a weight of the losses for a data set, a backbone and a start where no published recipe fits."""

from __future__ import annotations

from utility.config.settings import BACKBONES, Config, ScheduleConfig

_BATCH = 32  # of which BACKBONES gives the learning rates
_WARM_UP = 0.05  # largest part of a training that is warm-up


def of_length(schedule: ScheduleConfig, steps: int) -> dict[str, tuple]:
    """Return `decay_boundaries` and `lr_decay_factors` of a training of so many steps, as changes to a config.

    The rate decays at the same parts of the whole. A warm-up, after which the rate rises, keeps its number of steps,
    but is at most a twentieth of the whole. Of boundaries that fall on one step, the last counts.
    """
    factors, boundaries = schedule.lr_decay_factors, []
    for boundary, before, after in zip(schedule.decay_boundaries, factors[:-1], factors[1:], strict=True):
        part = steps * boundary // schedule.max_number_of_steps
        boundaries.append(min(boundary, int(steps * _WARM_UP)) if after > before else part)
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
        "schedule.learning_rate": recipe.learning_rate * config.schedule.batch_size / _BATCH,
        "schedule.clip_gradient_norm": recipe.clip_gradient_norm,
        "loss.localization_weight": recipe.localization_weight,
    }


def described(config: Config) -> str:
    """Return it in a line, of its parts those that are in use.

    Such as: `learning rate 0.001 to step 54, 0.01 to 730; gradients clipped at a norm of 20; location loss times 0.5`.
    """
    schedule, weight = config.schedule, config.loss.localization_weight
    norm = schedule.clip_gradient_norm
    last = schedule.max_number_of_steps
    ends = [min(boundary, last) for boundary in (*schedule.decay_boundaries, last)]
    spans = zip(schedule.rates, [0, *ends], ends, strict=False)
    parts = [f"{rate:.3g} to {end}" for rate, start, end in spans if start < end]
    rule = f"learning rate {', '.join(parts)}".replace(" to ", " to step ", 1)
    clipping = f"; gradients clipped at a norm of {norm:g}" if norm else ""
    weighting = f"; location loss times {weight:g}" if weight != 1.0 else ""
    return rule + clipping + weighting
