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
    of the paper, CENTER_SIZE of Caffe's EncodeBBox. Heights and widths must be positive. `anchors.cyxhw` may be a
    tensor, of the default boxes that are wanted.
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
    indices, states = match(_iou_with_usable(boxes, labels, anchors), match_threshold, neg_threshold)
    positive = tf.equal(states, 1)
    classes = tf.where_v2(positive, tf.gather(labels, indices, batch_dims=1), states)
    return Targets(classes, _offsets_of_positives(positive, indices, boxes, anchors))


def _iou_with_usable(boxes: tf.Tensor, labels: tf.Tensor, anchors: DefaultBoxes) -> tf.Tensor:
    """Return the IoU of boxes [B, N, 4] with the default boxes, [B, N, K]; 0 for padding and degenerate boxes.

    Most of a batch is padding, as few images have as many objects as the one with the most: it is left out.
    """
    usable = tf.where_v2(tf.logical_and(labels > 0, tf.logical_not(box_ops.is_degenerate(boxes))))  # [M, 2]
    iou = box_ops.iou(tf.gather_nd(boxes, usable), anchors.corners(), anchors.frame.pixel_extent)  # [M, K]
    shape = tf.concat([tf.shape(labels, out_type=tf.int64), [len(anchors.cyxhw)]], axis=0)
    return tf.ensure_shape(tf.scatter_nd(usable, iou, shape), [*labels.shape, len(anchors.cyxhw)])


def _offsets_of_positives(
    positive: tf.Tensor, indices: tf.Tensor, boxes: tf.Tensor, anchors: DefaultBoxes
) -> tf.Tensor:
    """Return the offsets of boxes [B, N, 4] to the default boxes matched to them, and 0 for others, [B, K, 4].

    Args:
      positive: bool [B, K], which default boxes are matched.
      indices: int32 [B, K], the box that each is matched to.
      boxes: in the anchors' frame.
      anchors: the K default boxes.
    """
    matched = tf.where_v2(positive)  # int64 [P, 2]: image, default box
    image, default_box = matched[:, 0], matched[:, 1]
    box = tf.cast(tf.gather_nd(indices, matched), tf.int64)
    offsets = encode(
        tf.gather_nd(boxes, tf.stack([image, box], axis=1)),
        anchors._replace(cyxhw=tf.gather(tf.constant(anchors.cyxhw), default_box)),
    )
    shape = tf.concat([tf.shape(positive, out_type=tf.int64), [4]], axis=0)
    return tf.ensure_shape(tf.scatter_nd(matched, offsets, shape), [*positive.shape, 4])
