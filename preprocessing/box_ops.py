"""Box geometry: area, intersection over union, clipping, conversion between corners and centre + size.

All boxes are float32. `pixel_extent` selects one of two conventions: with 0 coordinates are continuous, and the width
of a box is xmax - xmin; with 1 they are pixel indices, both ends inclusive, and the width is xmax - xmin + 1.
"""

import tensorflow.compat.v1 as tf


def area(boxes_yxyx: tf.Tensor, pixel_extent: float = 0.0) -> tf.Tensor:
    """Return the area of each box of [..., 4] as [...]; an inverted box has area 0."""
    ymin, xmin, ymax, xmax = tf.unstack(boxes_yxyx, axis=-1)
    return tf.maximum(ymax - ymin + pixel_extent, 0.0) * tf.maximum(xmax - xmin + pixel_extent, 0.0)


def is_degenerate(boxes_yxyx: tf.Tensor) -> tf.Tensor:
    """Return, as bool [...], which boxes [..., 4] have a height or width of zero or less."""
    ymin, xmin, ymax, xmax = tf.unstack(boxes_yxyx, axis=-1)
    return tf.logical_or(ymax <= ymin, xmax <= xmin)


def intersection(a_yxyx: tf.Tensor, b_yxyx: tf.Tensor, pixel_extent: float = 0.0) -> tf.Tensor:
    """Return the intersection area of every pair of boxes a [..., N, 4] and b [..., M, 4] as [..., N, M]."""
    ymin_a, xmin_a, ymax_a, xmax_a = tf.split(a_yxyx, 4, axis=-1)  # each [..., N, 1]
    ymin_b, xmin_b, ymax_b, xmax_b = (b[..., tf.newaxis, :] for b in tf.unstack(b_yxyx, axis=-1))  # [..., 1, M]
    height = tf.minimum(ymax_a, ymax_b) - tf.maximum(ymin_a, ymin_b) + pixel_extent
    width = tf.minimum(xmax_a, xmax_b) - tf.maximum(xmin_a, xmin_b) + pixel_extent
    return tf.maximum(height, 0.0) * tf.maximum(width, 0.0)


def iou(a_yxyx: tf.Tensor, b_yxyx: tf.Tensor, pixel_extent: float = 0.0) -> tf.Tensor:
    """Return the intersection over union of every pair of boxes a [..., N, 4] and b [..., M, 4] as [..., N, M].

    Values are in [0, 1]. A box without area has IoU 0 with every box, itself included.
    """
    overlap = intersection(a_yxyx, b_yxyx, pixel_extent)
    area_a = area(a_yxyx, pixel_extent)[..., :, tf.newaxis]
    area_b = area(b_yxyx, pixel_extent)[..., tf.newaxis, :]
    return tf.math.divide_no_nan(overlap, area_a + area_b - overlap)


def clip(boxes_yxyx: tf.Tensor, window_yxyx: tf.Tensor) -> tf.Tensor:
    """Clip boxes [..., 4] to a window [4], ymin xmin ymax xmax; a box outside the window becomes degenerate."""
    low, high = window_yxyx[:2], window_yxyx[2:]
    low, high = tf.concat([low, low], axis=0), tf.concat([high, high], axis=0)
    return tf.minimum(tf.maximum(boxes_yxyx, low), high)


def to_center(boxes_yxyx: tf.Tensor, pixel_extent: float = 0.0) -> tf.Tensor:
    """Convert corners [..., 4] to centre and size [..., 4]: cy, cx, height, width."""
    ymin, xmin, ymax, xmax = tf.unstack(boxes_yxyx, axis=-1)
    return tf.stack(
        [(ymin + ymax) / 2, (xmin + xmax) / 2, ymax - ymin + pixel_extent, xmax - xmin + pixel_extent], axis=-1
    )


def to_corners(boxes_cyxhw: tf.Tensor, pixel_extent: float = 0.0) -> tf.Tensor:
    """Convert centre and size [..., 4] to corners [..., 4]: the inverse of `to_center`."""
    cy, cx, height, width = tf.unstack(boxes_cyxhw, axis=-1)
    half_height, half_width = (height - pixel_extent) / 2, (width - pixel_extent) / 2
    return tf.stack([cy - half_height, cx - half_width, cy + half_height, cx + half_width], axis=-1)
