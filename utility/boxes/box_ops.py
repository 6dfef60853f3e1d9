"""Box geometry: area, intersection over union, clipping, corners <-> centres.

Two conventions of width share this code. With `offset` 0 a box is a continuous interval and its width is
xmax - xmin; with `offset` 1 it counts pixels, both ends inclusive, and its width is xmax - xmin + 1.
"""

import tensorflow.compat.v1 as tf


def area(boxes_yxyx: tf.Tensor, offset: float = 0.0) -> tf.Tensor:
    """Return the area of boxes [..., 4], as [...]: 0 where a box is inverted."""
    ymin, xmin, ymax, xmax = tf.unstack(boxes_yxyx, axis=-1)
    return tf.maximum(ymax - ymin + offset, 0.0) * tf.maximum(xmax - xmin + offset, 0.0)


def is_degenerate(boxes_yxyx: tf.Tensor) -> tf.Tensor:
    """Tell which boxes [..., 4] have no extent, or a negative one, as bool [...]."""
    ymin, xmin, ymax, xmax = tf.unstack(boxes_yxyx, axis=-1)
    return tf.logical_or(ymax <= ymin, xmax <= xmin)


def intersection(a_yxyx: tf.Tensor, b_yxyx: tf.Tensor, offset: float = 0.0) -> tf.Tensor:
    """Return the shared area of every pair of a [..., N, 4] and b [..., M, 4], as [..., N, M]."""
    ymin_a, xmin_a, ymax_a, xmax_a = tf.split(a_yxyx, 4, axis=-1)  # each [..., N, 1]
    ymin_b, xmin_b, ymax_b, xmax_b = (b[..., tf.newaxis, :] for b in tf.unstack(b_yxyx, axis=-1))  # [..., 1, M]
    height = tf.minimum(ymax_a, ymax_b) - tf.maximum(ymin_a, ymin_b) + offset
    width = tf.minimum(xmax_a, xmax_b) - tf.maximum(xmin_a, xmin_b) + offset
    return tf.maximum(height, 0.0) * tf.maximum(width, 0.0)


def iou(a_yxyx: tf.Tensor, b_yxyx: tf.Tensor, offset: float = 0.0) -> tf.Tensor:
    """Return the intersection over union of every pair of a [..., N, 4] and b [..., M, 4], as [..., N, M].

    The value is in [0, 1]; a degenerate box has 0 with everything, itself included.
    """
    shared = intersection(a_yxyx, b_yxyx, offset)
    area_a = area(a_yxyx, offset)[..., :, tf.newaxis]
    area_b = area(b_yxyx, offset)[..., tf.newaxis, :]
    return tf.math.divide_no_nan(shared, area_a + area_b - shared)


def clip(boxes_yxyx: tf.Tensor, window_yxyx: tf.Tensor) -> tf.Tensor:
    """Return boxes [..., 4] cut off at the window [4]; a box outside of it becomes degenerate."""
    low, high = window_yxyx[:2], window_yxyx[2:]
    low, high = tf.concat([low, low], axis=0), tf.concat([high, high], axis=0)
    return tf.minimum(tf.maximum(boxes_yxyx, low), high)


def to_center(boxes_yxyx: tf.Tensor, offset: float = 0.0) -> tf.Tensor:
    """Return corners [..., 4] as centre and size [..., 4]: cy, cx, height, width."""
    ymin, xmin, ymax, xmax = tf.unstack(boxes_yxyx, axis=-1)
    return tf.stack([(ymin + ymax) / 2, (xmin + xmax) / 2, ymax - ymin + offset, xmax - xmin + offset], axis=-1)


def to_corners(boxes_cyxhw: tf.Tensor, offset: float = 0.0) -> tf.Tensor:
    """Return centre and size [..., 4] as corners [..., 4]: the inverse of `to_center`."""
    cy, cx, height, width = tf.unstack(boxes_cyxhw, axis=-1)
    half_height, half_width = (height - offset) / 2, (width - offset) / 2
    return tf.stack([cy - half_height, cx - half_width, cy + half_height, cx + half_width], axis=-1)
