"""Detections from the output of the network: decoding, score threshold and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from net.default_boxes import DefaultBoxes
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


# A function (boxes [B, C - 1, k, 4], corners of half-open intervals in the anchors' frame, scores [B, C - 1, k] in
# decreasing order, settings) -> the boxes and scores that remain after non-maximum suppression,
# [B, C - 1, nms_topk, 4] and [B, C - 1, nms_topk], padded with zeros.
NonMaxSuppression = Callable[[tf.Tensor, tf.Tensor, DetectionConfig], tuple[tf.Tensor, tf.Tensor]]


def combined_nms(boxes: tf.Tensor, scores: tf.Tensor, settings: DetectionConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Suppress boxes of all images and classes by one batched op, whose batch is all (image, class) pairs."""
    _, classes, count = scores.shape
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
    return tf.reshape(kept_boxes, [*shape, 4]), tf.reshape(kept_scores, shape)


def nms_per_class(boxes: tf.Tensor, scores: tf.Tensor, settings: DetectionConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Suppress boxes of one image (B = 1) by one op per class, an op that TensorFlow Lite has as well."""

    def suppress(boxes: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        kept, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=boxes,
            scores=scores,
            max_output_size=settings.nms_topk,
            iou_threshold=settings.nms_threshold,
            score_threshold=settings.select_threshold,
            pad_to_max_output_size=True,
        )
        kept = tf.reshape(kept, [settings.nms_topk])
        is_detection = tf.range(settings.nms_topk) < count  # the rest is padding
        return tf.gather(boxes, kept), tf.where_v2(is_detection, tf.gather(scores, kept), 0.0)

    pairs = zip(tf.unstack(boxes[0]), tf.unstack(scores[0]), strict=True)
    kept_boxes, kept_scores = zip(*(suppress(*pair) for pair in pairs), strict=True)
    return tf.stack(kept_boxes)[tf.newaxis], tf.stack(kept_scores)[tf.newaxis]


def detect(
    output: SsdOutput, anchors: DefaultBoxes, settings: DetectionConfig, nms: NonMaxSuppression = combined_nms
) -> Detections:
    """Compute the detections of a batch: Caffe's DetectionOutput with the reference's settings.

    Args:
      output: offsets float32 [B, K, 4] and logits float32 [B, K, C], class 0 is the background.
      anchors: the default boxes.
      settings: thresholds and numbers of boxes.
      nms: the implementation of non-maximum suppression; the results are the same.
    """
    boxes = anchors.frame.to_normalized(decode(output.offsets, anchors))
    boxes = box_ops.clip(boxes, tf.constant([0.0, 0.0, 1.0, 1.0]))  # [B, K, 4]
    scores = tf.nn.softmax(output.logits)[:, :, 1:]  # [B, K, C - 1]
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=-1)
    is_large = tf.logical_and(ymax - ymin > settings.min_size, xmax - xmin > settings.min_size)
    scores = tf.where_v2(is_large[..., tf.newaxis], scores, 0.0)
    top_scores, indices = _top_per_class(scores, settings)
    top_boxes = tf.gather(boxes, indices, batch_dims=1)  # [B, C - 1, k, 4]
    # TensorFlow's ops compute a width as xmax - xmin: inclusive pixels [a, b] become the interval [a, b + 1]
    frame = anchors.frame
    widen = tf.constant([0.0, 0.0, frame.pixel_extent, frame.pixel_extent])
    kept_boxes, kept_scores = nms(frame.from_normalized(top_boxes) + widen, top_scores, settings)
    return _merge_classes(frame.to_normalized(kept_boxes - widen), kept_scores, settings)


def _top_per_class(scores: tf.Tensor, settings: DetectionConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the keep_topk highest scores of each class and the indices of their default boxes, both [B, C - 1, k]."""
    per_class = tf.transpose(scores, [0, 2, 1])  # [B, C - 1, K]
    return tf.nn.top_k(per_class, k=min(settings.keep_topk, scores.shape[1]))


def _merge_classes(boxes: tf.Tensor, scores: tf.Tensor, settings: DetectionConfig) -> Detections:
    """Merge boxes [B, C - 1, k, 4] and scores [B, C - 1, k] of all classes in order of decreasing score."""
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
