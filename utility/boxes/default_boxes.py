"""Default boxes and the coordinates that they live in: section 2.2 of the paper."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from utility.boxes import box_ops
from utility.config.feature_maps import FeatureMap, feature_maps
from utility.config.settings import AnchorConfig, Config


class BoxFrame(NamedTuple):
    """The coordinates in which default boxes live: frame = normalized * scale - offset.

    normalized: scale 1, offset 0; boxes are parts of the image and widths are plain differences.
    absolute: scale (height, width) of the network input, offset 1; boxes are 0-based inclusive pixels, because
    a record holds 1-based inclusive pixels / size, and widths count both ends.
    """

    scale_yxyx: np.ndarray  # float32 [4]
    offset: float

    def from_normalized(self, boxes_yxyx: tf.Tensor) -> tf.Tensor:
        """Bring boxes [..., 4] from [0, 1] of the image into this frame."""
        return boxes_yxyx * self.scale_yxyx - self.offset

    def to_normalized(self, boxes: tf.Tensor) -> tf.Tensor:
        """Bring boxes [..., 4] of this frame back into [0, 1] of the image."""
        return (boxes + self.offset) / self.scale_yxyx


class DefaultBoxes(NamedTuple):
    """The K default boxes of a network as constants, and the frame and variances that encode against them."""

    cyxhw: np.ndarray  # float32 [K, 4]: centre y, centre x, height, width in the frame
    frame: BoxFrame
    variances: np.ndarray  # float32 [4]

    def corners(self) -> tf.Tensor:
        """Return the default boxes as corners, float32 [K, 4]."""
        return box_ops.to_corners(tf.constant(self.cyxhw), self.frame.offset)


def default_boxes(config: Config) -> DefaultBoxes:
    """Build the default boxes that a config describes."""
    size = np.array(config.network.image_size, np.float64)
    centers = _centers(feature_maps(config.network), config.anchors, size)
    absolute = config.targets.coordinates == "absolute"
    scale = np.tile(size if absolute else np.ones(2), 2)
    boxes = centers * scale
    if absolute:  # an inclusive pixel range [a, b] has its centre half a pixel before that of the interval [a, b + 1)
        boxes[:, :2] -= 0.5
    frame = BoxFrame(scale.astype(np.float32), 1.0 if absolute else 0.0)
    return DefaultBoxes(boxes.astype(np.float32), frame, np.array(config.targets.prior_variances, np.float32))


def _centers(maps: tuple[FeatureMap, ...], anchors: AnchorConfig, size: np.ndarray) -> np.ndarray:
    """Return all default boxes, normalized, float64 [K, 4]; order: layer, row, column, box of the cell."""
    layers = []
    for index, feature_map in enumerate(maps):
        shapes = _shapes(anchors.scales[index], anchors.scales[index + 1], anchors.ratios[index])
        shapes = shapes * size.min() / size  # a square is square in pixels
        rows, columns = (
            (np.arange(cells) + anchors.offset) * step / side
            for cells, step, side in zip(feature_map.grid, feature_map.step, size, strict=True)
        )
        cells = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 1, 2)
        layer = np.concatenate(
            [
                np.broadcast_to(cells, (len(cells), len(shapes), 2)),
                np.broadcast_to(shapes, (len(cells), len(shapes), 2)),
            ],
            axis=-1,
        )
        layers.append(layer.reshape(-1, 4))
    return np.concatenate(layers)


def _shapes(scale: float, next_scale: float, ratios: tuple[float, ...]) -> np.ndarray:
    """Return height and width of a cell's boxes, float64 [A, 2]: the extra square first, then the ratios."""
    extra = np.sqrt(scale * next_scale)
    return np.array([(extra, extra)] + [(scale / np.sqrt(ratio), scale * np.sqrt(ratio)) for ratio in ratios])
