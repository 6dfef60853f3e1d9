"""The default boxes nearest to an object, without a look at all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from utility.boxes import box_ops
from utility.boxes.default_boxes import default_boxes
from utility.config.feature_maps import boxes_per_cell, feature_maps
from utility.config.settings import Config

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
