"""Detections from the output of the network: decoding, score threshold and non-maximum suppression."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from net.default_boxes import BoxFrame, DefaultBoxes
from net.matching import decode
from net.ssd_net import SsdOutput
from preprocessing import box_ops
from utility.config.settings import DetectionConfig


class Detections(NamedTuple):
    """The detections of B images, each sorted by decreasing score and padded with zeros to the same number D."""

    boxes_yxyx: tf.Tensor  # float32 [B, D, 4] in [0, 1] of the image
    scores: tf.Tensor  # float32 [B, D] in (select_threshold, 1]
    classes: tf.Tensor  # int32 [B, D], class ids from 1; 0 for padding
    count: tf.Tensor  # int32 [B], number of detections without padding


def detect(output: SsdOutput, anchors: DefaultBoxes, settings: DetectionConfig) -> Detections:
    """Compute the detections of a batch: Caffe's DetectionOutput with the reference's settings.

    Args:
      output: offsets float32 [B, K, 4] and logits float32 [B, K, C], class 0 is the background.
      anchors: the default boxes.
      settings: thresholds and numbers of boxes.
    """
    boxes, scores = candidates(output, anchors, settings)
    _, classes, count = scores.shape
    # all images and classes by one batched op, whose batch is all (image, class) pairs
    kept_boxes, kept_scores, _, _ = tf.image.combined_non_max_suppression(
        tf.reshape(boxes, [-1, count, 1, 4]),
        tf.reshape(scores, [-1, count, 1]),
        max_output_size_per_class=settings.nms_topk,
        max_total_size=settings.nms_topk,
        iou_threshold=settings.nms_threshold,
        score_threshold=settings.select_threshold,
        clip_boxes=False,
    )
    shape = [-1, classes, settings.nms_topk]
    return merge_classes(tf.reshape(kept_boxes, [*shape, 4]), tf.reshape(kept_scores, shape), anchors.frame, settings)


def candidates(output: SsdOutput, anchors: DefaultBoxes, settings: DetectionConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Return, for each class, the boxes that take part in non-maximum suppression, with the highest score first.

    Args: see `detect`.

    Returns:
      boxes float32 [B, C - 1, k, 4], clipped to the image, corners of half-open intervals in the anchors' frame: the
      ops for non-maximum suppression compute a width as xmax - xmin, so inclusive pixels [a, b] become [a, b + 1].
      scores float32 [B, C - 1, k], 0 for boxes below `min_size`.
    """
    boxes = anchors.frame.to_normalized(decode(output.offsets, anchors))
    boxes = box_ops.clip(boxes, tf.constant([0.0, 0.0, 1.0, 1.0]))  # [B, K, 4]
    scores = tf.nn.softmax(output.logits)[:, :, 1:]  # [B, K, C - 1]
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=-1)
    is_large = tf.logical_and(ymax - ymin > settings.min_size, xmax - xmin > settings.min_size)
    scores = tf.where_v2(is_large[..., tf.newaxis], scores, 0.0)
    per_class = tf.transpose(scores, [0, 2, 1])  # [B, C - 1, K]
    top_scores, indices = tf.nn.top_k(per_class, k=min(settings.keep_topk, scores.shape[1]))  # [B, C - 1, k]
    boxes = anchors.frame.from_normalized(tf.gather(boxes, indices, batch_dims=1))
    return boxes + _half_open(anchors.frame), top_scores


def merge_classes(boxes: tf.Tensor, scores: tf.Tensor, frame: BoxFrame, settings: DetectionConfig) -> Detections:
    """Merge what non-maximum suppression leaves of all classes in order of decreasing score.

    Args:
      boxes: [B, C - 1, m, 4], as `candidates` returns them.
      scores: [B, C - 1, m], 0 for padding.
      frame: of the boxes.
      settings: with the number of detections.
    """
    boxes = frame.to_normalized(boxes - _half_open(frame))
    _, classes, count = scores.shape
    total = classes * count
    limit = min(settings.max_detections or total, total)
    merged_scores, indices = tf.nn.top_k(tf.reshape(scores, [-1, total]), k=limit)
    merged_boxes = tf.gather(tf.reshape(boxes, [-1, total, 4]), indices, batch_dims=1)
    is_detection = merged_scores > 0  # padding has score 0, detections a score above the threshold
    return Detections(
        boxes_yxyx=tf.where_v2(is_detection[..., tf.newaxis], merged_boxes, 0.0),
        scores=merged_scores,
        classes=tf.where_v2(is_detection, indices // count + 1, 0),
        count=tf.reduce_sum(tf.cast(is_detection, tf.int32), axis=1),
    )


def _half_open(frame: BoxFrame) -> tf.Tensor:
    return tf.constant([0.0, 0.0, frame.pixel_extent, frame.pixel_extent])
