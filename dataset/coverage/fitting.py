"""Scales of the default boxes that fit the objects of a data set."""

from __future__ import annotations

import itertools
import math

import numpy as np

from utility.boxes.nearest import Find
from utility.config.feature_maps import boxes_per_cell
from utility.config.settings import Config

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
