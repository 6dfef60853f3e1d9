"""Default boxes: making, matching to ground truth, encoding and decoding (section 2.2 of the paper)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from utility import bbox_util
from utility.config import AnchorConfig, Config, FeatureMap, feature_maps


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
        return bbox_util.to_corners(tf.constant(self.cyxhw), self.frame.offset)


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


def match(iou: tf.Tensor, match_threshold: float, neg_threshold: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Match every default box to a ground truth, to the background, or to nothing.

    First each ground truth takes its best default box (see `best_default_boxes`); then every other default box
    takes the ground truth that it overlaps most, if by `match_threshold` or more. Section 2.2, "matching
    strategy"; Caffe's MatchBBox with PER_PREDICTION.

    Args:
      iou: float32 [B, N, K] in [0, 1], N of at least 1; rows of padding are 0 throughout.
      match_threshold: IoU from which a default box is positive.
      neg_threshold: IoU below which it is background; from there up to match_threshold it is ignored.

    Returns:
      indices: int32 [B, K], the matched ground truth (meaningless where the state is not 1).
      states: int32 [B, K], 1 positive, 0 background, -1 ignored.
    """
    indices = tf.argmax(iou, axis=1, output_type=tf.int32)
    best = tf.reduce_max(iou, axis=1)
    states = tf.where_v2(best >= match_threshold, 1, tf.where_v2(best >= neg_threshold, -1, 0))
    ground_truths, boxes = tf.shape(iou)[1], tf.shape(iou)[2]
    # int32 [B, K]: the ground truth whose own box this is, or -1
    owner = _scatter_rows(best_default_boxes(iou), tf.range(ground_truths) + 1, boxes) - 1
    return tf.where_v2(owner >= 0, owner, indices), tf.where_v2(owner >= 0, 1, states)


def best_default_boxes(iou: tf.Tensor) -> tf.Tensor:
    """Give each ground truth one default box of its own, the most overlapping pairs first.

    The result is that of the greedy loop of Caffe's MatchBBox (BIPARTITE), which takes the largest IoU of all,
    removes its row and column, and goes on. A pair that is the best of its row and of its column will be taken
    by that loop whatever happens elsewhere, so all such pairs are taken at once: a round or two, not N.

    Args:
      iou: float32 [B, N, K] in [0, 1].

    Returns:
      int32 [B, N]: the default box of each ground truth, or -1 where every one left has no overlap with it.
    """
    count = tf.shape(iou)[1]

    def unfinished(chosen, free):
        del chosen
        return tf.reduce_any(tf.reduce_max(free, axis=2) > 0)

    def take(chosen, free):
        best = tf.argmax(free, axis=2, output_type=tf.int32)  # [B, N] default box
        overlap = tf.reduce_max(free, axis=2)
        rivals = tf.gather(free, best, axis=2, batch_dims=1)  # [B, N, N]: ground truth x the box another wants
        winner = tf.argmax(rivals, axis=1, output_type=tf.int32)
        won = tf.logical_and(tf.equal(winner, tf.range(count)), overlap > 0)
        chosen = tf.ensure_shape(tf.where_v2(won, best, chosen), chosen.shape)
        taken = _scatter_rows(tf.where_v2(won, best, -1), tf.ones([count], tf.int32), tf.shape(iou)[2])
        gone = tf.logical_or(won[:, :, tf.newaxis], taken[:, tf.newaxis, :] > 0)
        return chosen, tf.ensure_shape(tf.where_v2(gone, 0.0, free), free.shape)

    iou = tf.stop_gradient(iou)
    chosen = -tf.ones(tf.shape(iou)[:2], tf.int32)
    return tf.while_loop(unfinished, take, (chosen, iou), maximum_iterations=count)[0]


def _scatter_rows(columns: tf.Tensor, values: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return int32 [B, width], 0 but for values[n] at [b, columns[b, n]]; a column of -1 is left out."""
    batch, count = tf.shape(columns)[0], tf.shape(columns)[1]
    columns = tf.where_v2(columns < 0, width, columns)  # one spare column takes them
    rows = tf.tile(tf.range(batch)[:, tf.newaxis], [1, count])
    places = tf.stack([rows, columns], axis=-1)
    values = tf.tile(values[tf.newaxis], [batch, 1])
    return tf.scatter_nd(places, values, tf.stack([batch, width + 1]))[:, :width]


def encode(boxes: tf.Tensor, anchors: DefaultBoxes) -> tf.Tensor:
    """Return boxes [..., K, 4], corners in the anchors' frame, as offsets [..., K, 4] to their default boxes.

    Offsets are (cy, cx, log h, log w) relative to the default box, divided by the prior variances: equation 2
    of the paper, CENTER_SIZE of Caffe's EncodeBBox. Sizes must be positive.
    """
    center, size = tf.split(bbox_util.to_center(boxes, anchors.frame.offset), 2, axis=-1)
    anchor_center, anchor_size = anchors.cyxhw[:, :2], anchors.cyxhw[:, 2:]
    offsets = tf.concat([(center - anchor_center) / anchor_size, tf.log(size / anchor_size)], axis=-1)
    return offsets / anchors.variances


def decode(offsets: tf.Tensor, anchors: DefaultBoxes) -> tf.Tensor:
    """Return offsets [..., K, 4] as corners [..., K, 4] in the anchors' frame: the inverse of `encode`."""
    shift, log_size = tf.split(offsets * anchors.variances, 2, axis=-1)
    anchor_center, anchor_size = anchors.cyxhw[:, :2], anchors.cyxhw[:, 2:]
    boxes_cyxhw = tf.concat([shift * anchor_size + anchor_center, tf.exp(log_size) * anchor_size], axis=-1)
    return bbox_util.to_corners(boxes_cyxhw, anchors.frame.offset)


class Targets(NamedTuple):
    """What the network should have said: classes int32 [B, K] (-1 ignored, 0 background) and offsets [B, K, 4]."""

    classes: tf.Tensor
    offsets: tf.Tensor  # float32, 0 where the class is not positive


def encode_targets(
    boxes_yxyx: tf.Tensor,
    labels: tf.Tensor,
    anchors: DefaultBoxes,
    match_threshold: float,
    neg_threshold: float,
) -> Targets:
    """Match and encode a batch of ground truth.

    Args:
      boxes_yxyx: float32 [B, N, 4], normalized; N may be 0.
      labels: int [B, N], class ids from 1; 0 marks padding.
      anchors: the default boxes.
      match_threshold: see `match`.
      neg_threshold: see `match`.

    A degenerate ground truth, or one that overlaps no default box, is matched to nothing. An image without
    ground truth is background throughout.
    """
    # one row of padding, so that the best ground truth is defined in a batch without any
    boxes_yxyx = tf.pad(boxes_yxyx, [[0, 0], [0, 1], [0, 0]])
    labels = tf.pad(tf.cast(labels, tf.int32), [[0, 0], [0, 1]])
    boxes = anchors.frame.from_normalized(boxes_yxyx)
    usable = tf.logical_and(labels > 0, tf.logical_not(bbox_util.is_degenerate(boxes)))
    iou = bbox_util.iou(boxes, anchors.corners(), anchors.frame.offset)
    iou = tf.where_v2(usable[:, :, tf.newaxis], iou, 0.0)
    indices, states = match(iou, match_threshold, neg_threshold)
    positive = tf.equal(states, 1)
    classes = tf.where_v2(positive, tf.gather(labels, indices, batch_dims=1), states)
    # where nothing matched, the default box itself stands in: its offsets are 0 and their logarithms finite
    matched = tf.where_v2(positive[..., tf.newaxis], tf.gather(boxes, indices, batch_dims=1), anchors.corners())
    offsets = encode(matched, anchors)
    return Targets(classes, tf.where_v2(positive[..., tf.newaxis], offsets, 0.0))
