"""What would let SSD find more objects: presets, input sizes, scales and min_size, tried on the data set itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from operator import attrgetter

import numpy as np

from net import coverage
from net.coverage import Find, Objects, augmented, nearest_finder
from utility.config import presets
from utility.config.feature_maps import boxes_per_cell, feature_maps
from utility.config.settings import Config

# Scales of the default boxes that fit the objects of a data set.

_STEPS = 48  # scales that are tried, in equal ratios
_LARGEST = 1.1  # of them
_APART = 1.15  # least ratio of a scale and the one before, so that each map has a size of its own, as in the paper
_DIGITS = 3  # of a scale


def fitted_scales(shown: np.ndarray, augmented: np.ndarray, config: Config, find: Find) -> tuple[float, ...]:
    """Return scales with which default boxes overlap as many objects as can be by `match_threshold` or more.

    Both kinds of boxes count half: what a picture shows is what is to be found, and what the augmentation makes of it
    is what is learnt from. A scale after the other is set to the best of those between its neighbours, until none can
    be bettered, once from the config's own scales and once from scales in equal ratios over the sizes of the objects.
    They stay in increasing order.

    Args:
      shown: float32 [N, 4] in [0, 1], objects as they are in the pictures, N at least 1.
      augmented: float32 [M, 4] in [0, 1], objects after the augmentation.
      config: of the network.
      find: see `nearest_finder`.
    """
    boxes = np.concatenate([shown, augmented])
    weights = np.repeat([1 / len(shown), 1 / max(len(augmented), 1)], [len(shown), len(augmented)])
    sizes = _sizes(boxes, config)
    tried = np.geomspace(min(np.quantile(sizes, 0.01) / 2, _LARGEST / 2), _LARGEST, _STEPS)
    search = _Search(boxes, weights, tried, config, find)
    own, apart = config.anchors.scales, math.ceil(math.log(_APART) / math.log(tried[1] / tried[0]))
    smallest, largest = np.quantile(sizes, [0.02, 0.98]).tolist()
    spread = np.geomspace(smallest, largest, len(own))
    starts = [_apart(np.searchsorted(tried, scales), apart) for scales in (own, spread)]
    best = max((search.climb(start, apart) for start in starts), key=search.value)
    return tuple(float(f"{tried[step]:.{_DIGITS}g}") for step in best)


def _apart(steps: np.ndarray, apart: int) -> list[int]:
    """Move increasing numbers of scales so far that each is `apart` or more above the one before."""
    lowest = apart * np.arange(len(steps))
    highest = _STEPS - 1 - lowest[::-1]
    return (np.maximum.accumulate(steps.clip(lowest, highest) - lowest) + lowest).tolist()


def _sizes(boxes: np.ndarray, config: Config) -> np.ndarray:
    """Return the sides of squares with the areas of boxes, as fractions of the input's shorter side."""
    sides = (boxes[:, 2:] - boxes[:, :2]) * config.network.image_size
    return np.sqrt(sides.prod(axis=1)) / min(config.network.image_size)


class _Search:
    """Looks up which of N objects are overlapped by half, for any choice of the scales that are tried."""

    def __init__(self, boxes: np.ndarray, weights: np.ndarray, tried: np.ndarray, config: Config, find: Find):
        self._weights = weights
        per_map = boxes_per_cell(config.anchors)
        columns = np.split(np.arange(sum(per_map)), np.cumsum(per_map)[:-1])
        # by map and scale, bool [N]: whether a box of this scale does, or the extra square of this side
        self._by_ratio = np.zeros((len(per_map), len(tried), len(boxes)), bool)
        self._by_square = np.zeros_like(self._by_ratio)
        for step, scale in enumerate(tried.tolist()):
            scales = (scale,) * len(config.anchors.scales)  # sqrt(s_k s_k+1) is this scale too
            found = find(boxes, config.replace({"anchors.scales": scales})).ious >= config.targets.match_threshold
            for number, own in enumerate(columns):
                self._by_square[number, step] = found[:, own[0]]
                self._by_ratio[number, step] = found[:, own[1:]].any(axis=1)

    def value(self, chosen: list[int]) -> float:
        """Return the weight of the objects overlapped with the scales of these numbers, one a map and one more."""
        maps = range(len(self._by_ratio))
        squares = [(low + high) // 2 for low, high in itertools.pairwise(chosen)]
        found = self._by_ratio[maps, chosen[:-1]].any(axis=0) | self._by_square[maps, squares].any(axis=0)
        return float(self._weights[found].sum())

    def climb(self, chosen: list[int], apart: int) -> list[int]:
        """Return the numbers of scales, each `apart` or more above the one before, of which none can be bettered."""
        best = self.value(chosen)
        while True:
            before = best
            for position in range(len(chosen)):
                low = chosen[position - 1] + apart if position else 0
                high = chosen[position + 1] - apart if position + 1 < len(chosen) else _STEPS - 1
                for step in range(low, high + 1):
                    other = [*chosen[:position], step, *chosen[position + 1 :]]
                    if (value := self.value(other)) > best + 1e-9:
                        best, chosen = value, other
            if best <= before:
                return chosen


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
        found = coverage.look_for(objects, config, find)
        lines = [f"objects that are hard to find with {asked}:", *coverage.lines(objects, found, config, class_names)]
        return [*lines, *_MEANINGS, *_what_helps(objects, config, find)]


def _what_helps(objects: Objects, config: Config, find: Find) -> list[str]:
    sample = objects.sample(_SAMPLE, _SAMPLED_IMAGES)
    in_training = sample._replace(boxes_yxyx=augmented(sample, config))
    best = coverage.look_for(objects, config, find).shares()
    rows = [_row(best, in_training.boxes_yxyx, config, config, find)]
    for other in _candidates(config, objects, sample, in_training.boxes_yxyx, find):
        if best.lost < _GAIN:
            break
        shares = coverage.look_for(objects, other, find).shares()
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


def _row(shares: coverage.Shares, augmented_boxes: np.ndarray, config: Config, asked: Config, find: Find) -> str:
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
            scales = fitted_scales(sample.boxes_yxyx, in_training, base, find)
            yield _with_min_size(base.replace({"anchors.scales": scales}), objects)


def _with_min_size(config: Config, objects: Objects) -> Config:
    """Return the config with a min_size below half of nearly all objects' sides, if its own is not."""
    sides = (objects.boxes_yxyx[:, 2:] - objects.boxes_yxyx[:, :2]).min(axis=1)
    if (sides <= config.detection.min_size).mean() < _GAIN / 2:
        return config
    return config.replace({"detection.min_size": float(f"{np.quantile(sides, _GAIN / 4) / 2:.1g}")})
