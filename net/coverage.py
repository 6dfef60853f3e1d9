"""Which objects a network can find: a default box overlaps them, and detections of their size are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from net.default_boxes import default_boxes
from preprocessing import box_ops, geometry
from utility.config.feature_maps import boxes_per_cell, feature_maps
from utility.config.settings import Config
from utility.run.log import log

# The default boxes nearest to an object, without a look at all others.

_AT_ONCE = 50_000  # objects; with 30 shapes, 6 MB for each of the dozen arrays that an IoU takes


class NearestBoxes(NamedTuple):
    """For N objects and each of the S shapes of default boxes, the box of this shape with the highest IoU."""

    indices: np.ndarray  # int64 [N, S], of the K default boxes
    ious: np.ndarray  # float32 [N, S] in [0, 1]


Find = Callable[[np.ndarray, Config], NearestBoxes]


@contextmanager
def nearest_finder() -> Iterator[Find]:
    """Yield a function that finds, of the default boxes of each shape on each feature map, the best for each object.

    It is the one in the cell whose centre is nearest to the object's: of two boxes of one shape, the nearer one has the
    larger intersection both in y and in x, and so the higher IoU. Thus S IoUs an object do instead of K. Where several
    have the same IoU, because the object is inside all of them, it is the nearest.

    The function takes objects, float32 [N, 4] in [0, 1] of the image, of which a degenerate one has IoU 0, and a config
    with network, default boxes and coordinates. Shapes are in the order of feature maps, and on each in that of
    `default_boxes`; S is the sum of `boxes_per_cell`.
    """
    without_gpu = tf.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default(), tf.Session(config=without_gpu) as session:
        objects, candidates = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.float32, [None, None, 4])
        extent = tf.placeholder(tf.float32, [])
        iou = box_ops.iou(objects[:, tf.newaxis], box_ops.to_corners(candidates, extent), extent)[:, 0]  # [N, S]

        def find(boxes_yxyx: np.ndarray, config: Config) -> NearestBoxes:
            anchors, indices, ious = default_boxes(config), [], []
            for part in np.split(boxes_yxyx, range(_AT_ONCE, len(boxes_yxyx), _AT_ONCE)):
                boxes = anchors.frame.from_normalized(part)
                indices.append(_nearest_cells(boxes, anchors.cyxhw, config))
                near = {candidates: anchors.cyxhw[indices[-1]], extent: anchors.frame.pixel_extent}
                ious.append(session.run(iou, {objects: boxes, **near}))
            return NearestBoxes(np.concatenate(indices), np.concatenate(ious))

        yield find


def _nearest_cells(boxes: np.ndarray, cyxhw: np.ndarray, config: Config) -> np.ndarray:
    """Return the indices of the default boxes [N, S] in the cells nearest to the centres of boxes [N, 4]."""
    centers, first, found = (boxes[:, :2] + boxes[:, 2:]) / 2, 0, []
    for feature_map, shapes in zip(feature_maps(config.network), boxes_per_cell(config.anchors), strict=True):
        rows, columns = feature_map.grid
        last = first + rows * columns * shapes
        grid = cyxhw[first:last].reshape(rows, columns, shapes, 4)
        cells = _nearest(grid[:, 0, 0, 0], centers[:, 0]) * columns + _nearest(grid[0, :, 0, 1], centers[:, 1])
        found.append(first + cells[:, np.newaxis] * shapes + np.arange(shapes))
        first = last
    return np.concatenate(found, axis=1)


def _nearest(positions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the index of the nearest of the increasing positions [P] for each value [N], int64 [N]."""
    return np.searchsorted((positions[1:] + positions[:-1]) / 2, values)


# The objects of a data set that a network is to find, as the pictures show them and as the augmentation does.

Example = Mapping[str, Any]


class Objects(NamedTuple):
    """N objects with an area, in I images; those marked difficult are left out unless the config learns from them."""

    boxes_yxyx: np.ndarray  # float32 [N, 4] in [0, 1] of the image, clipped to it
    labels: np.ndarray  # int64 [N], class ids
    images: np.ndarray  # int64 [N], the number of each one's image, from 0
    sizes: np.ndarray  # int32 [I, 2], height and width of the images in pixels

    def sample(self, objects: int, images: int, seed: int = 0) -> Objects:
        """Return the objects of images drawn at random: of so many images at most, and of one more than hold so many.

        The images keep their numbers.
        """
        order = np.random.RandomState(seed).permutation(len(self.sizes))[:images]
        counts = np.bincount(self.images, minlength=len(self.sizes))[order]
        chosen = np.isin(self.images, order[: np.searchsorted(np.cumsum(counts), objects) + 1])
        return Objects(self.boxes_yxyx[chosen], self.labels[chosen], self.images[chosen], self.sizes)


def objects_of(examples: Sequence[Example], use_difficult: bool) -> Objects:
    """Return the objects of examples, numpy values of what `parsing.parse` returns; the pictures are not needed."""
    counts = [len(example["labels"]) for example in examples]
    boxes = _joined(examples, "boxes_yxyx", np.zeros((0, 4), np.float32)).clip(0.0, 1.0)
    difficult = _joined(examples, "difficult", np.zeros(0, bool))
    counted = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (use_difficult | ~difficult)
    labels, images = _joined(examples, "labels", np.zeros(0, np.int64)), np.repeat(np.arange(len(examples)), counts)
    sizes = np.array([(example["height"], example["width"]) for example in examples], np.int32).reshape(-1, 2)
    return Objects(boxes[counted], labels[counted], images[counted], sizes)


def _joined(examples: Sequence[Example], key: str, none: np.ndarray) -> np.ndarray:
    return np.concatenate([none, *(example[key] for example in examples)])


def augmented(objects: Objects, config: Config) -> np.ndarray:
    """Return the boxes of objects as one epoch of training shows them, float32 [M, 4] in [0, 1], all with an area.

    The config is that of the network's input and of the augmentation.
    """
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
        boxes, size, number = (tf.placeholder(*of) for of in ((tf.float32, [None, 4]), (tf.int32, [2]), (tf.int32, [])))
        uniform = tf.random.stateless_uniform([geometry.number_of_draws(config.augment)], tf.stack([0, number]))
        placement = geometry.draw_placement(boxes, size, config.network.image_size, uniform, config.augment)
        moved, _ = geometry.move_boxes(boxes, placement, size, config.network.image_size)
        parts = [np.zeros((0, 4), np.float32)]
        for image in np.unique(objects.images):
            own = objects.boxes_yxyx[objects.images == image]
            parts.append(session.run(moved, {boxes: own, size: objects.sizes[image], number: image}))
    found = np.concatenate(parts)
    return found[(found[:, 2:] > found[:, :2]).all(axis=1)]


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
