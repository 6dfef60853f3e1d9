"""From raw predictions to detections: decoding, selection and non-maximum suppression, whole batches at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from net.network.ssd_net import SsdOutput
from utility.boxes import box_ops
from utility.boxes.default_boxes import DefaultBoxes
from utility.boxes.encoding import decode
from utility.config.settings import DetectionConfig


class Detections(NamedTuple):
    """The detections of B images, the highest score first, padded with zeros to the same number D."""

    boxes_yxyx: tf.Tensor  # float32 [B, D, 4] in [0, 1] of the image
    scores: tf.Tensor  # float32 [B, D] in (select_threshold, 1]
    classes: tf.Tensor  # int32 [B, D], from 1
    count: tf.Tensor  # int32 [B], how many of the D are real


# Boxes [B, C - 1, k, 4] and their scores [B, C - 1, k], the highest first -> [B, C - 1, nms_topk, 4] and
# [B, C - 1, nms_topk], those that no better one of their class overlaps, padded with zeros.
Suppression = Callable[[tf.Tensor, tf.Tensor, DetectionConfig], tuple[tf.Tensor, tf.Tensor]]


def suppress_at_once(boxes: tf.Tensor, scores: tf.Tensor, settings: DetectionConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Suppress boxes of all images and classes by one op; each (image, class) is an image of one class to it."""
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


def suppress_by_class(boxes: tf.Tensor, scores: tf.Tensor, settings: DetectionConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Suppress boxes of one image by an op a class: the one that TensorFlow Lite has too."""

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
        real = tf.range(settings.nms_topk) < count
        return tf.gather(boxes, kept), tf.where_v2(real, tf.gather(scores, kept), 0.0)

    pairs = zip(tf.unstack(boxes[0]), tf.unstack(scores[0]), strict=True)
    kept_boxes, kept_scores = zip(*(suppress(*pair) for pair in pairs), strict=True)
    return tf.stack(kept_boxes)[tf.newaxis], tf.stack(kept_scores)[tf.newaxis]


def detect(
    output: SsdOutput, anchors: DefaultBoxes, settings: DetectionConfig, suppression: Suppression = suppress_at_once
) -> Detections:
    """Turn predictions into detections: Caffe's DetectionOutput with the reference's settings.

    Args:
      output: offsets float32 [B, K, 4] and logits float32 [B, K, C], class 0 the background.
      anchors: the default boxes.
      settings: thresholds and numbers of boxes.
      suppression: how non-maximum suppression is computed; the results are the same.
    """
    boxes = anchors.frame.to_normalized(decode(output.offsets, anchors))
    boxes = box_ops.clip(boxes, tf.constant([0.0, 0.0, 1.0, 1.0]))  # [B, K, 4]
    scores = tf.nn.softmax(output.logits)[:, :, 1:]  # [B, K, C - 1]
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=-1)
    large = tf.logical_and(ymax - ymin > settings.min_size, xmax - xmin > settings.min_size)
    scores = tf.where_v2(large[..., tf.newaxis], scores, 0.0)
    best_scores, best = _top_by_class(scores, settings)
    best_boxes = tf.gather(boxes, best, batch_dims=1)  # [B, C - 1, k, 4]
    # the ops know no inclusive pixels: [a, b] has the width of the interval [a, b + 1]
    frame = anchors.frame
    widen = tf.constant([0.0, 0.0, frame.offset, frame.offset])
    kept_boxes, kept_scores = suppression(frame.from_normalized(best_boxes) + widen, best_scores, settings)
    return _merge_classes(frame.to_normalized(kept_boxes - widen), kept_scores, settings)


def _top_by_class(scores: tf.Tensor, settings: DetectionConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the keep_topk highest scores of each class and their default boxes, both [B, C - 1, k]."""
    by_class = tf.transpose(scores, [0, 2, 1])
    return tf.nn.top_k(by_class, k=min(settings.keep_topk, scores.shape[1]))


def _merge_classes(boxes: tf.Tensor, scores: tf.Tensor, settings: DetectionConfig) -> Detections:
    """Put the classes' boxes [B, C - 1, k, 4] and scores [B, C - 1, k] into one list by score."""
    _, classes, count = scores.shape
    total = classes * count
    limit = min(settings.max_detections or total, total)
    merged_scores, places = tf.nn.top_k(tf.reshape(scores, [-1, total]), k=limit)
    merged_boxes = tf.gather(tf.reshape(boxes, [-1, total, 4]), places, batch_dims=1)
    real = merged_scores > 0  # padding has score 0, which no threshold lets through
    return Detections(
        boxes_yxyx=tf.where_v2(real[..., tf.newaxis], merged_boxes, 0.0),
        scores=merged_scores,
        classes=tf.where_v2(real, places // count + 1, 0),
        count=tf.reduce_sum(tf.cast(real, tf.int32), axis=1),
    )
