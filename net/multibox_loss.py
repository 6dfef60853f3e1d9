"""The multibox loss: softmax cross entropy with hard negative mining, and smooth L1 (section 2.2)."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from net.matching import Targets
from net.ssd_net import SsdOutput


class MultiboxLoss(NamedTuple):
    """The loss of a batch, its accuracy, and the number of default boxes that it is computed from."""

    cross_entropy: (
        tf.Tensor
    )  # float32 []: sum over positives and mined negatives, divided by the positives of the batch
    localization: tf.Tensor  # float32 []: sum of smooth L1 over positives, divided by the positives of the batch
    correct: tf.Tensor  # float32 [], number of positives and mined negatives that are classified correctly
    selected: tf.Tensor  # float32 [], number of positives and mined negatives
    positives: tf.Tensor  # int32 [B], positive default boxes of each image
    negatives: tf.Tensor  # int32 [B], mined negatives of each image


def multibox_loss(
    output: SsdOutput,
    targets: Targets,
    negative_ratio: float,
    negatives_without_positive: int,
    normalizer: tf.Tensor | None = None,
) -> MultiboxLoss:
    """Compute the loss of a batch.

    Args:
      output: offsets float32 [B, K, 4] and logits float32 [B, K, C].
      targets: classes int32 [B, K] (-1 ignored, 0 background) and offsets float32 [B, K, 4].
      negative_ratio: mined negatives per positive, for each image.
      negatives_without_positive: mined negatives of an image without positives.
      normalizer: float32 [], the divisor of both losses; a part of a batch needs that of the whole batch. By default it
        is max(1, positives of these images), so that the loss of a batch without objects is finite.
    """
    classes = targets.classes
    is_positive, is_negative = classes > 0, tf.equal(classes, 0)
    positives = tf.reduce_sum(tf.cast(is_positive, tf.int32), axis=1)
    available = tf.reduce_sum(tf.cast(is_negative, tf.int32), axis=1)
    wanted = tf.cast(negative_ratio * tf.cast(positives, tf.float32), tf.int32)
    wanted = tf.where_v2(positives > 0, wanted, negatives_without_positive)
    negatives = tf.minimum(wanted, available)
    is_mined = mine_hard_negatives(background_cross_entropy(output.logits), is_negative, negatives)
    if normalizer is None:
        normalizer = tf.cast(tf.maximum(tf.reduce_sum(positives), 1), tf.float32)
    # about 1 % of the default boxes are selected: loss and gradient are computed for those alone
    selected, matched = tf.where_v2(tf.logical_or(is_positive, is_mined)), tf.where_v2(is_positive)
    classes, logits = tf.gather_nd(classes, selected), tf.gather_nd(output.logits, selected)  # [S], [S, C]
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=classes, logits=logits)
    predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
    offset_loss = smooth_l1(tf.gather_nd(output.offsets, matched) - tf.gather_nd(targets.offsets, matched))
    return MultiboxLoss(
        cross_entropy=tf.reduce_sum(cross_entropy) / normalizer,
        localization=tf.reduce_sum(offset_loss) / normalizer,
        correct=tf.reduce_sum(tf.cast(tf.equal(predicted, classes), tf.float32)),
        selected=tf.cast(tf.size(classes), tf.float32),
        positives=positives,
        negatives=negatives,
    )


def background_cross_entropy(logits: tf.Tensor) -> tf.Tensor:
    """Return -log of the background's probability, float32 [B, K], of logits [B, K, C], without a gradient.

    It keeps the order of negatives whose probability underflows to 0.
    """
    logits = tf.stop_gradient(logits)
    return tf.reduce_logsumexp(logits, axis=-1) - logits[..., 0]


def mine_hard_negatives(cross_entropy: tf.Tensor, is_negative: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Select the negatives with the highest loss: section 2.2, "hard negative mining".

    Negatives are selected by rank: a threshold would select too many where losses are equal.

    Args:
      cross_entropy: float32 [B, K].
      is_negative: bool [B, K].
      count: int32 [B], at most the number of negatives of the image.

    Returns:
      bool [B, K], true for exactly count[b] default boxes of image b.
    """
    negative_loss = tf.where_v2(is_negative, cross_entropy, -1.0)
    max_count = tf.reduce_max(count)
    _, boxes = tf.nn.top_k(negative_loss, k=max_count)  # int32 [B, max_count], in order of decreasing loss
    is_selected = tf.range(max_count)[tf.newaxis] < count[:, tf.newaxis]
    rows = tf.tile(tf.range(tf.shape(boxes)[0])[:, tf.newaxis], [1, max_count])
    indices = tf.boolean_mask(tf.stack([rows, boxes], axis=-1), is_selected)
    return tf.scatter_nd(indices, tf.ones(tf.shape(indices)[:1], tf.int32), tf.shape(cross_entropy)) > 0


def smooth_l1(difference: tf.Tensor) -> tf.Tensor:
    """Return 0.5 d^2 where |d| < 1 and |d| - 0.5 elsewhere, in the shape of d: Fast R-CNN, equation 3."""
    distance = tf.abs(difference)
    return tf.where_v2(distance < 1.0, 0.5 * tf.square(difference), distance - 0.5)
