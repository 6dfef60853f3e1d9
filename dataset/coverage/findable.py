"""Which objects a network can find: a default box overlaps them, and detections of their size are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dataset.coverage.objects import Example, Objects, objects_of
from utility.boxes.nearest import Find, nearest_finder
from utility.config.settings import Config
from utility.run.log import log

_MANY_LOST = 0.1  # of the objects: training says so


class Findable(NamedTuple):
    """What may be in the way of finding each of N objects, bool [N] each; `Shares` gives the meaning."""

    without_box: np.ndarray
    too_small: np.ndarray
    compete: np.ndarray

    def shares(self, chosen: np.ndarray | slice = slice(None)) -> Shares:
        """Return the shares of the objects chosen, of which there must be one."""
        own = Findable(*(values[chosen] for values in self))
        return Shares(*(float(values.mean()) for values in (*own, own.without_box | own.too_small)))


class Shares(NamedTuple):
    """Shares of objects, in [0, 1]."""

    without_box: float  # no default box has an IoU of match_threshold with it: only its best box learns it
    too_small: float  # height or width is at most min_size: a detection of this size is dropped
    compete: float  # its best default box is also that of another object of the image, and one of them takes its next
    lost: float  # the first or the second


def look_for(objects: Objects, config: Config, find: Find) -> Findable:
    """Tell what is in the way of finding objects; `find` is that of `nearest_finder`."""
    near = find(objects.boxes_yxyx, config)
    best_iou, best = near.ious.max(axis=1), near.ious.argmax(axis=1)
    sides = objects.boxes_yxyx[:, 2:] - objects.boxes_yxyx[:, :2]
    best_box = near.indices[np.arange(len(best)), best]
    box_of_image = objects.images * (near.indices.max(initial=0) + 1) + best_box
    _, group, sizes = np.unique(box_of_image, return_inverse=True, return_counts=True)
    return Findable(
        without_box=best_iou < config.targets.match_threshold,
        too_small=sides.min(axis=1) <= config.detection.min_size,
        compete=(sizes[group] > 1) & (best_iou > 0),
    )


def lines(objects: Objects, found: Findable, config: Config, class_names: Sequence[str]) -> list[str]:
    """Return the shares by class and of all as lines of a table; the name at index i has class id i + 1."""
    names = dict(enumerate(class_names, start=1))
    rows = [
        (f"{label:3d}", names.get(label, f"class {label}"), objects.labels == label)
        for label in np.unique(objects.labels).tolist()
    ]
    rows.append(("", "all", np.ones(len(objects.labels), bool)))
    width = max(len(name) for _, name, _ in rows)
    head = f"{'class':>{width + 4}}  objects  no box by {config.targets.match_threshold:g}"
    head += f"  below {config.detection.min_size:g}  either  compete"
    return [head, *(f"{number:3} {name:>{width}}  {_row(found, chosen)}" for number, name, chosen in rows)]


def _row(found: Findable, chosen: np.ndarray) -> str:
    shares = found.shares(chosen)
    cells = [f"{100 * share:.1f} %" for share in (shares.without_box, shares.too_small, shares.lost, shares.compete)]
    return f"{chosen.sum():7d}  {cells[0]:>13}  {cells[1]:>10}  {cells[2]:>6}  {cells[3]:>7}"


def log_if_many_are_lost(examples: Sequence[Example], config: Config, advice: str) -> None:
    """Log a line if a tenth of the objects of some examples or more are hard to find; `advice` tells more, a command.

    It takes a tenth of a second for a thousand examples.
    """
    objects = objects_of(examples, config.targets.use_difficult)
    if not len(objects.labels):
        return
    with nearest_finder() as find:
        shares = look_for(objects, config, find).shares()
    if shares.lost >= _MANY_LOST:
        log(
            f"{100 * shares.lost:.0f} % of {len(objects.labels)} objects in {len(examples)} images are hard to find: no"
            f" default box overlaps {100 * shares.without_box:.0f} % by {config.targets.match_threshold:g},"
            f" {100 * shares.too_small:.0f} % are below --min_size={config.detection.min_size:g}; what helps: {advice}"
        )
