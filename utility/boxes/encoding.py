"""Encoding of boxes as offsets to their default boxes, decoding, and the training targets."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from utility.boxes import box_ops
from utility.boxes.default_boxes import DefaultBoxes
from utility.boxes.matching import match


def encode(boxes: tf.Tensor, anchors: DefaultBoxes) -> tf.Tensor:
    """Encode boxes float32 [..., K, 4], corners in the anchors' frame, as offsets [..., K, 4] to the default boxes.

    Offsets are (cy, cx, log h, log w) relative to the default box, divided by the prior variances: equation 2
    of the paper, CENTER_SIZE of Caffe's EncodeBBox. Heights and widths must be positive.
    """
    center, size = tf.split(box_ops.to_center(boxes, anchors.frame.pixel_extent), 2, axis=-1)
    anchor_center, anchor_size = anchors.cyxhw[:, :2], anchors.cyxhw[:, 2:]
    offsets = tf.concat([(center - anchor_center) / anchor_size, tf.log(size / anchor_size)], axis=-1)
    return offsets / anchors.variances


def decode(offsets: tf.Tensor, anchors: DefaultBoxes) -> tf.Tensor:
    """Decode offsets float32 [..., K, 4] to corners [..., K, 4] in the anchors' frame: the inverse of `encode`."""
    center_offset, log_size = tf.split(offsets * anchors.variances, 2, axis=-1)
    anchor_center, anchor_size = anchors.cyxhw[:, :2], anchors.cyxhw[:, 2:]
    boxes_cyxhw = tf.concat([center_offset * anchor_size + anchor_center, tf.exp(log_size) * anchor_size], axis=-1)
    return box_ops.to_corners(boxes_cyxhw, anchors.frame.pixel_extent)


class Targets(NamedTuple):
    """The training targets of the K default boxes, for each image of the batch."""

    classes: tf.Tensor  # int32 [B, K]: class id, 0 background, -1 ignored
    offsets: tf.Tensor  # float32 [B, K, 4], as `encode` returns them; 0 for default boxes that are not positive


def encode_targets(
    boxes_yxyx: tf.Tensor,
    labels: tf.Tensor,
    anchors: DefaultBoxes,
    match_threshold: float,
    neg_threshold: float,
) -> Targets:
    """Match and encode the ground truth of a batch.

    Degenerate ground truth, and ground truth that overlaps no default box, is not matched. In an image without
    ground truth all default boxes are background.

    Args:
      boxes_yxyx: float32 [B, N, 4] in [0, 1] of the image; N may be 0.
      labels: int [B, N], class ids from 1; 0 marks padding.
      anchors: the default boxes.
      match_threshold: see `match`.
      neg_threshold: see `match`.
    """
    # one padding row, so that argmax over the ground truth is defined when N is 0
    boxes_yxyx = tf.pad(boxes_yxyx, [[0, 0], [0, 1], [0, 0]])
    labels = tf.pad(tf.cast(labels, tf.int32), [[0, 0], [0, 1]])
    boxes = anchors.frame.from_normalized(boxes_yxyx)
    usable = tf.logical_and(labels > 0, tf.logical_not(box_ops.is_degenerate(boxes)))
    iou = box_ops.iou(boxes, anchors.corners(), anchors.frame.pixel_extent)
    iou = tf.where_v2(usable[:, :, tf.newaxis], iou, 0.0)
    indices, states = match(iou, match_threshold, neg_threshold)
    positive = tf.equal(states, 1)
    classes = tf.where_v2(positive, tf.gather(labels, indices, batch_dims=1), states)
    # a default box without a match encodes itself: its size is positive, so the logarithm is finite
    matched = tf.where_v2(positive[..., tf.newaxis], tf.gather(boxes, indices, batch_dims=1), anchors.corners())
    offsets = encode(matched, anchors)
    return Targets(classes, tf.where_v2(positive[..., tf.newaxis], offsets, 0.0))
