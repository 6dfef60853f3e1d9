"""Matching of default boxes to ground truth: section 2.2 of the paper, "matching strategy"."""

from __future__ import annotations

import tensorflow.compat.v1 as tf


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
