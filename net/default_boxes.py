"""Default boxes and their coordinate system: section 2.2 of the paper."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from utility.config.feature_maps import FeatureMap, feature_maps
from utility.config.settings import AnchorConfig, Config


class BoxFrame(NamedTuple):
    """The coordinate system of default boxes: coordinate = normalized * scale - pixel_extent.

    normalized: scale 1, pixel_extent 0. Coordinates are in [0, 1] of the image, and a width is xmax - xmin.
    absolute: scale (height, width) of the network input, pixel_extent 1. Coordinates are 0-based inclusive pixels,
    because a record holds 1-based inclusive pixels / image size, and a width is xmax - xmin + 1.
    """

    scale_yxyx: np.ndarray  # float32 [4]
    pixel_extent: float

    def from_normalized(self, boxes_yxyx: tf.Tensor) -> tf.Tensor:
        """Convert boxes [..., 4] from [0, 1] of the image to this frame."""
        return boxes_yxyx * self.scale_yxyx - self.pixel_extent

    def to_normalized(self, boxes: tf.Tensor) -> tf.Tensor:
        """Convert boxes [..., 4] from this frame to [0, 1] of the image."""
        return (boxes + self.pixel_extent) / self.scale_yxyx


class DefaultBoxes(NamedTuple):
    """The K default boxes of a network as constants, with the frame and the prior variances used to encode offsets."""

    cyxhw: np.ndarray  # float32 [K, 4]: centre y, centre x, height, width, in `frame`
    frame: BoxFrame
    variances: np.ndarray  # float32 [4]: of cy, cx, height, width

    @property
    def corners_yxyx(self) -> np.ndarray:
        """The default boxes as corners in `frame`, float32 [K, 4]."""
        centre, half = self.cyxhw[:, :2], (self.cyxhw[:, 2:] - self.frame.pixel_extent) / 2
        return np.concatenate([centre - half, centre + half], axis=1)


def default_boxes(config: Config) -> DefaultBoxes:
    """Build the default boxes of a config."""
    size = np.array(config.network.image_size, np.float64)
    centers = _centers(feature_maps(config.network), config.anchors, size)
    absolute = config.targets.coordinates == "absolute"
    scale = np.tile(size if absolute else np.ones(2), 2)
    boxes = centers * scale
    if absolute:  # the centre of inclusive pixels [a, b] is half a pixel before that of the interval [a, b + 1)
        boxes[:, :2] -= 0.5
    frame = BoxFrame(scale.astype(np.float32), 1.0 if absolute else 0.0)
    return DefaultBoxes(boxes.astype(np.float32), frame, np.array(config.targets.prior_variances, np.float32))


def _centers(maps: tuple[FeatureMap, ...], anchors: AnchorConfig, size: np.ndarray) -> np.ndarray:
    """Return centre and size of all default boxes in [0, 1] of the image, float64 [K, 4].

    Order: feature map, row, column, shape within the cell.
    """
    layers = []
    for index, feature_map in enumerate(maps):
        shapes = _shapes(anchors.scales[index], anchors.scales[index + 1], anchors.ratios[index])
        shapes = shapes * size.min() / size  # a square default box is square in pixels, also in an input that is not
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
    """Return height and width of a cell's A default boxes, float64 [A, 2]: the extra square, then one per ratio."""
    extra = np.sqrt(scale * next_scale)
    return np.array([(extra, extra)] + [(scale / np.sqrt(ratio), scale * np.sqrt(ratio)) for ratio in ratios])
