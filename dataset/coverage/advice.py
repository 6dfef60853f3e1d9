"""What would let SSD find more objects: presets, input sizes, scales and min_size, tried on the data set itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from operator import attrgetter

import numpy as np

from dataset.coverage import findable, fitting
from dataset.coverage.objects import Objects, augmented
from utility.boxes.nearest import Find, nearest_finder
from utility.config import presets
from utility.config.feature_maps import feature_maps
from utility.config.settings import Config

_GAIN = 0.02  # of the objects; what gains less is not worth a line
_FACTORS = (1.5, 2, 3)  # of the input's sides
_MANY_LEFT = 0.1  # of the objects
_ADVISED = ("network.image_size", "anchors.scales", "detection.min_size")
_KEPT = ("class_names", "network.backbone", "targets.match_threshold", "targets.neg_threshold")
_MEANINGS = (
    "  no box: no default box overlaps the object by so much, so that one default box alone learns it",
    "  below: height or width of the object; detections as small as that are dropped, see --min_size",
    "  compete: the best default box is that of another object of the image too, and one takes its next best",
)
_SAMPLE, _SAMPLED_IMAGES = 1000, 200  # objects and images that scales are fitted to


def report(objects: Objects, config: Config, class_names: Sequence[str]) -> list[str]:
    """Return lines that tell which objects are hard to find with a config, and which flags would help.

    Flags are tried in the order of what they cost; those are listed that find more than all before them.
    """
    height, width = config.network.image_size
    asked = f"--preset={config.preset} --backbone={config.network.backbone}, input {height}x{width}"
    if not len(objects.labels):
        return [f"no object to look for with {asked}"]
    with nearest_finder() as find:
        found = findable.look_for(objects, config, find)
        lines = [f"objects that are hard to find with {asked}:", *findable.lines(objects, found, config, class_names)]
        return [*lines, *_MEANINGS, *_what_helps(objects, config, find)]


def _what_helps(objects: Objects, config: Config, find: Find) -> list[str]:
    sample = objects.sample(_SAMPLE, _SAMPLED_IMAGES)
    in_training = sample._replace(boxes_yxyx=augmented(sample, config))
    best = findable.look_for(objects, config, find).shares()
    rows = [_row(best, in_training.boxes_yxyx, config, config, find)]
    for other in _candidates(config, objects, sample, in_training.boxes_yxyx, find):
        if best.lost < _GAIN:
            break
        shares = findable.look_for(objects, other, find).shares()
        if shares.lost <= best.lost - _GAIN:
            best = shares
            rows.append(_row(shares, in_training.boxes_yxyx, other, config, find))
    if len(rows) == 1:
        rows = [f"no preset, input size or scales that were tried find {100 * _GAIN:.0f} % more of them"]
    else:
        rows.insert(0, "what helps:  either  compete  no box in augmented pictures  pixels  flags to add")
    if best.lost >= _MANY_LEFT:
        rows.append("  the rest is too small or too long for these; tiles show it larger: convert with --tile_size=300")
    return rows


def _row(shares: findable.Shares, augmented_boxes: np.ndarray, config: Config, asked: Config, find: Find) -> str:
    in_training = _share_without_box(augmented_boxes, config, find)
    cells = [f"{100 * share:.1f} %" for share in (shares.lost, shares.compete, in_training)]
    pixels = f"x {_pixels(config) / _pixels(asked):.1f}"
    flags = " ".join(_flags(config, asked)) or "none: as it is"
    return f"{cells[0]:>19}  {cells[1]:>7}  {cells[2]:>28}  {pixels:>6}  {flags}"


def _share_without_box(boxes_yxyx: np.ndarray, config: Config, find: Find) -> float:
    if not len(boxes_yxyx):
        return 0.0
    return float((find(boxes_yxyx, config).ious.max(axis=1) < config.targets.match_threshold).mean())


def _pixels(config: Config) -> int:
    return math.prod(config.network.image_size)


def _flags(config: Config, asked: Config) -> Iterator[str]:
    """Give the flags that, added to those of the config asked for, make this one."""
    if config.preset != asked.preset:
        yield f"--preset={config.preset}"
    base = _with(presets.preset(config.preset), asked, [name for name in _ADVISED if _is_given(name, asked)])
    if config.network.image_size != base.network.image_size:
        height, width = config.network.image_size
        yield f"--train_image_size={height}" + f"x{width}" * (height != width)
    if config.anchors.scales != base.anchors.scales:
        yield f"--anchor_scales={','.join(map(str, config.anchors.scales))}"
    if config.detection.min_size != base.detection.min_size:
        yield f"--min_size={config.detection.min_size:g}"


def _is_given(setting: str, config: Config) -> bool:
    return attrgetter(setting)(config) != attrgetter(setting)(presets.preset(config.preset))


def _with(config: Config, source: Config, settings: Sequence[str]) -> Config:
    """Return a config with some settings of another one."""
    return config.replace({name: attrgetter(name)(source) for name in settings})


def _candidates(
    config: Config, objects: Objects, sample: Objects, in_training: np.ndarray, find: Find
) -> Iterator[Config]:
    """Give configs to try, the cheapest first: presets and larger inputs, each as it is and with scales fitted."""
    others = [_with(presets.preset(name), config, _KEPT) for name in presets.PRESETS if name != config.preset]
    others = [other for other in others if other.targets.coordinates == config.targets.coordinates]
    others = [other for other in others if _pixels(other) >= _pixels(config)]  # objects get no smaller in the input
    height, width = config.network.image_size
    sizes = [(round(factor * height), round(factor * width)) for factor in _FACTORS]
    larger = [config.replace({"network.image_size": size}) for size in sizes]
    fitted: list[tuple] = []
    for base in sorted([config, *others, *larger], key=_pixels):
        yield _with_min_size(base, objects)
        grids = feature_maps(base.network), base.anchors.ratios
        if grids not in fitted:  # others with the same would be fitted alike
            fitted.append(grids)
            scales = fitting.fitted_scales(sample.boxes_yxyx, in_training, base, find)
            yield _with_min_size(base.replace({"anchors.scales": scales}), objects)


def _with_min_size(config: Config, objects: Objects) -> Config:
    """Return the config with a min_size below half of nearly all objects' sides, if its own is not."""
    sides = (objects.boxes_yxyx[:, 2:] - objects.boxes_yxyx[:, :2]).min(axis=1)
    if (sides <= config.detection.min_size).mean() < _GAIN / 2:
        return config
    return config.replace({"detection.min_size": float(f"{np.quantile(sides, _GAIN / 4) / 2:.1g}")})
