"""Matching of default boxes to ground truth, and encoding of boxes as offsets: section 2.2 of the paper.

`encode_targets` puts both together to the training targets of a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from net.default_boxes import DefaultBoxes
from preprocessing import box_ops


def match(iou: tf.Tensor, match_threshold: float, neg_threshold: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Match each default box to a ground truth or to the background, or mark it as ignored.

    First each ground truth is matched to its best default box (see `bipartite_match`). Then each remaining default
    box is matched to the ground truth with which it has the highest IoU, if that is at least `match_threshold`.
    Section 2.2, "matching strategy"; Caffe's MatchBBox with PER_PREDICTION.

    Args:
      iou: float32 [B, N, K] in [0, 1], N at least 1; rows of padding are all 0.
      match_threshold: a default box with at least this IoU is positive.
      neg_threshold: a default box with an IoU below this is background; from here up to match_threshold it is ignored.

    Returns:
      indices: int32 [B, K], the matched ground truth (meaningless where the state is not 1).
      states: int32 [B, K], 1 positive, 0 background, -1 ignored.
    """
    indices = tf.argmax(iou, axis=1, output_type=tf.int32)
    best_iou = tf.reduce_max(iou, axis=1)
    states = tf.where_v2(best_iou >= match_threshold, 1, tf.where_v2(best_iou >= neg_threshold, -1, 0))
    ground_truths, default_boxes = tf.shape(iou)[1], tf.shape(iou)[2]
    # int32 [B, K]: the ground truth that has this default box from the bipartite matching, or -1
    bipartite = _scatter_rows(bipartite_match(iou), tf.range(ground_truths) + 1, default_boxes) - 1
    return tf.where_v2(bipartite >= 0, bipartite, indices), tf.where_v2(bipartite >= 0, 1, states)


def bipartite_match(iou: tf.Tensor) -> tf.Tensor:
    """Match each ground truth to one default box, no default box twice, in order of decreasing IoU.

    The result is that of the greedy loop of Caffe's MatchBBox (BIPARTITE), which takes the largest IoU, removes its
    row and column, and repeats. A pair whose IoU is the largest of both its row and its column is taken by that loop
    in any case, so each iteration here takes all such pairs at once: one or two iterations usually do, instead of N.

    Args:
      iou: float32 [B, N, K] in [0, 1].

    Returns:
      int32 [B, N]: the default box of each ground truth, or -1 if no default box that is left overlaps it.
    """
    count = tf.shape(iou)[1]

    def any_overlap(matches, remaining):
        del matches
        return tf.reduce_any(tf.reduce_max(remaining, axis=2) > 0)

    def match_mutual_best(matches, remaining):
        best = tf.argmax(remaining, axis=2, output_type=tf.int32)  # [B, N]: best default box of each ground truth
        best_iou = tf.reduce_max(remaining, axis=2)
        # [B, N, N]: IoU of each ground truth with the best default box of each other
        iou_with_best = tf.gather(remaining, best, axis=2, batch_dims=1)
        best_ground_truth = tf.argmax(iou_with_best, axis=1, output_type=tf.int32)
        mutual = tf.logical_and(tf.equal(best_ground_truth, tf.range(count)), best_iou > 0)
        matches = tf.ensure_shape(tf.where_v2(mutual, best, matches), matches.shape)
        used = _scatter_rows(tf.where_v2(mutual, best, -1), tf.ones([count], tf.int32), tf.shape(iou)[2])
        removed = tf.logical_or(mutual[:, :, tf.newaxis], used[:, tf.newaxis, :] > 0)
        return matches, tf.ensure_shape(tf.where_v2(removed, 0.0, remaining), remaining.shape)

    iou = tf.stop_gradient(iou)
    matches = -tf.ones(tf.shape(iou)[:2], tf.int32)
    return tf.while_loop(any_overlap, match_mutual_best, (matches, iou), maximum_iterations=count)[0]


def _scatter_rows(columns: tf.Tensor, values: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return int32 [B, width] with values[n] at [b, columns[b, n]] and 0 elsewhere; a column of -1 is skipped."""
    batch, count = tf.shape(columns)[0], tf.shape(columns)[1]
    columns = tf.where_v2(columns < 0, width, columns)  # to one column more, which is cut off below
    rows = tf.tile(tf.range(batch)[:, tf.newaxis], [1, count])
    indices = tf.stack([rows, columns], axis=-1)  # [B, N, 2]
    values = tf.tile(values[tf.newaxis], [batch, 1])
    return tf.scatter_nd(indices, values, tf.stack([batch, width + 1]))[:, :width]


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

    The IoU of padding is not computed: most rows of a batch are padding.
    """
    usable = tf.where_v2(tf.logical_and(labels > 0, tf.logical_not(box_ops.is_degenerate(boxes))))  # [M, 2]
    corners = tf.constant(anchors.corners_yxyx)
    iou = box_ops.iou(tf.gather_nd(boxes, usable), corners, anchors.frame.pixel_extent)  # [M, K]
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
