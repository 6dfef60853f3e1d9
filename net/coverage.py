"""Which objects a network can find: a default box overlaps them, and detections of their size are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dataset.scores.average_precision import iou
from net.default_boxes import default_boxes
from utility.config.feature_maps import boxes_per_cell, feature_maps
from utility.config.settings import Config
from utility.run.log import log

_AT_ONCE = 50_000  # objects; with 30 shapes, 6 MB for each of the dozen arrays that an IoU takes
_MANY_LOST = 0.1  # of the objects: training says so


class Objects(NamedTuple):
    """N objects with an area, in I images; those marked difficult are left out unless the config learns from them."""

    boxes_yxyx: np.ndarray  # float32 [N, 4] in [0, 1] of the image, clipped to it
    labels: np.ndarray  # int64 [N], class ids
    images: np.ndarray  # int64 [N], the number of each one's image, from 0
    sizes: np.ndarray  # int32 [I, 2], height and width of the images in pixels


def objects_of(examples: Sequence[Mapping[str, Any]], use_difficult: bool) -> Objects:
    """Return the objects of examples, numpy values of what `parsing.parse` returns; the pictures are not needed."""
    boxes, labels, difficult = (
        np.concatenate([none, *(each[key] for each in examples)])
        for key, none in (
            ("boxes_yxyx", np.zeros((0, 4), np.float32)),
            ("labels", np.zeros(0, np.int64)),
            ("difficult", np.zeros(0, bool)),
        )
    )
    boxes = boxes.clip(0.0, 1.0)
    images = np.repeat(np.arange(len(examples)), [len(each["labels"]) for each in examples])
    sizes = np.array([(each["height"], each["width"]) for each in examples], np.int32).reshape(-1, 2)
    counted = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (use_difficult | ~difficult)
    return Objects(boxes[counted], labels[counted], images[counted], sizes)


class NearestBoxes(NamedTuple):
    """For N objects and each of the S shapes of default boxes, the box of this shape with the highest IoU."""

    indices: np.ndarray  # int64 [N, S], of the K default boxes
    ious: np.ndarray  # float32 [N, S] in [0, 1]


def nearest_boxes(boxes_yxyx: np.ndarray, config: Config) -> NearestBoxes:
    """Find, of the default boxes of each shape on each feature map, the best for each object.

    It is the one in the cell whose centre is nearest to the object's: of two boxes of one shape, the nearer one has the
    larger intersection both in y and in x, and so the higher IoU. Thus S IoUs an object do instead of K. Shapes are in
    the order of `default_boxes`; S is the sum of `boxes_per_cell`.

    The objects are float32 [N, 4] in [0, 1] of the image; a degenerate one has IoU 0.
    """
    anchors = default_boxes(config)
    corners, found = anchors.corners_yxyx, []
    for part in np.split(boxes_yxyx, range(_AT_ONCE, len(boxes_yxyx), _AT_ONCE)):
        boxes = anchors.frame.from_normalized(part)
        centers, first, indices = (boxes[:, :2] + boxes[:, 2:]) / 2, 0, []
        for feature_map, shapes in zip(feature_maps(config.network), boxes_per_cell(config.anchors), strict=True):
            rows, columns = feature_map.grid
            grid = anchors.cyxhw[first : first + rows * columns * shapes].reshape(rows, columns, shapes, 4)
            row, column = (
                np.searchsorted((positions[1:] + positions[:-1]) / 2, centers[:, axis])  # the nearest of the positions
                for axis, positions in enumerate((grid[:, 0, 0, 0], grid[0, :, 0, 1]))
            )
            indices.append(first + (row * columns + column)[:, np.newaxis] * shapes + np.arange(shapes))
            first += rows * columns * shapes
        nearest = np.concatenate(indices, axis=1)
        found.append((nearest, iou(boxes[:, np.newaxis], corners[nearest], anchors.frame.pixel_extent)))
    return NearestBoxes(*map(np.concatenate, zip(*found, strict=True)))


class Obstacles(NamedTuple):
    """What is in the way of finding objects: bool [N] of each, or their shares in [0, 1]."""

    without_box: Any  # no default box has an IoU of match_threshold with it: only its best box learns it
    too_small: Any  # height or width is at most min_size: a detection of this size is dropped
    lost: Any  # the first or the second
    compete: Any  # its best default box is also that of another object of the image, and one of them takes its next

    def shares(self, chosen: np.ndarray | slice = slice(None)) -> Obstacles:
        """Return the shares of the objects chosen, of which there must be one."""
        return Obstacles(*(float(values[chosen].mean()) for values in self))


def look_for(objects: Objects, config: Config) -> Obstacles:
    """Tell what is in the way of finding each object."""
    near = nearest_boxes(objects.boxes_yxyx, config)
    best_iou, best_shape = near.ious.max(axis=1), near.ious.argmax(axis=1)
    best_box = near.indices[np.arange(len(best_shape)), best_shape]
    box_of_image = objects.images * (near.indices.max(initial=0) + 1) + best_box
    _, group, sizes = np.unique(box_of_image, return_inverse=True, return_counts=True)
    without_box = best_iou < config.targets.match_threshold
    too_small = (objects.boxes_yxyx[:, 2:] - objects.boxes_yxyx[:, :2]).min(axis=1) <= config.detection.min_size
    return Obstacles(without_box, too_small, without_box | too_small, (sizes[group] > 1) & (best_iou > 0))


def log_if_many_are_lost(examples: Sequence[Mapping[str, Any]], config: Config, advice: str) -> None:
    """Log a line if a tenth of the objects of examples are hard to find; `advice` is the command that tells more."""
    objects = objects_of(examples, config.targets.use_difficult)
    shares = look_for(objects, config).shares() if len(objects.labels) else None
    if shares and shares.lost >= _MANY_LOST:
        log(
            f"{100 * shares.lost:.0f} % of {len(objects.labels)} objects in {len(examples)} images are hard to find: no"
            f" default box overlaps {100 * shares.without_box:.0f} % by {config.targets.match_threshold:g},"
            f" {100 * shares.too_small:.0f} % are below --min_size={config.detection.min_size:g}; what helps: {advice}"
        )
