"""Matching of default boxes to ground truth: section 2.2 of the paper, "matching strategy"."""

from __future__ import annotations

import tensorflow.compat.v1 as tf


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
