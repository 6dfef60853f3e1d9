"""Reduces a large picture in the graph, by the rule and the filter that the converter applies to training images."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow.compat.v1 as tf

from preprocessing.views import reduced_side

# A function (image float32 [h, w, 3], new height and width int32 [2]) -> image float32 [new height, new width, 3],
# each pixel the mean of the old ones around it, by a triangle as wide as two new pixels.
Resample = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def antialiased(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resample by TensorFlow's op for it."""
    scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32)
    return tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis], size=size, scale=scale, translation=[0.0, 0.0], kernel_type="triangle", antialias=True
    )[0]


def antialiased_by_products(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Resample by two products of matrices, which TensorFlow Lite and ONNX have as well."""
    (height, width), (new_height, new_width) = tf.unstack(tf.shape(image)[:2]), tf.unstack(size)
    rows = _weights(height, new_height) @ tf.reshape(image, [height, width * 3])
    columns = tf.transpose(tf.reshape(rows, [new_height, width, 3]), [1, 0, 2])
    columns = _weights(width, new_width) @ tf.reshape(columns, [width, new_height * 3])
    return tf.transpose(tf.reshape(columns, [new_width, new_height, 3]), [1, 0, 2])


def _weights(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """Return the weight of each old pixel in each new one along a side, float32 [new, old]; rows add up to 1."""
    old_centres, new_centres = (tf.cast(tf.range(count), tf.float32) + 0.5 for count in (old, new))
    distances = old_centres * (tf.cast(new, tf.float32) / tf.cast(old, tf.float32)) - new_centres[:, tf.newaxis]
    weights = tf.nn.relu(1 - tf.abs(distances))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def reduce(image: tf.Tensor, max_side: int | None, resample: Resample = antialiased) -> tf.Tensor:
    """Reduce an image [h, w, 3] in [0, 255] so that its longer side is `max_side` pixels; one that is not longer stays.

    The result is float32, or, without `max_side`, the image itself.
    """
    if max_side is None:
        return image

    def reduced_or_not(image: tf.Tensor) -> tf.Tensor:
        size = tf.shape(image)[:2]
        longer = tf.reduce_max(size)
        reduced = lambda: resample(image, tf.maximum(reduced_side(size, longer, max_side), 1))  # noqa: E731
        return tf.cond(longer > max_side, reduced, lambda: image)

    # as a function, because TensorFlow Lite and ONNX have no counterpart of a condition in the graph itself
    result = tf.compat.v2.function(reduced_or_not, autograph=False)(tf.cast(image, tf.float32))
    result.set_shape([None, None, 3])
    return result
