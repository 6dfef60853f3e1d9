"""Photometric distortion: section 2.2 of the paper, with the ranges and the order of Caffe's SSD.

Brightness, then contrast, saturation and hue, or saturation, hue and contrast: each with its probability.
Saturation and hue are those of the HSV hexagon, as OpenCV has them. TensorFlow's own kernels for both take
2.5 ms each for an input of 300x300 pixels on one core, one pixel at a time; the closed forms here are a
few operations on whole planes.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from utility.config.settings import AugmentConfig

DRAWS = 9  # random numbers that one image takes: four switches and four strengths, and the order
_HIGHEST = 255.0


def distort(image: tf.Tensor, uniform: tf.Tensor, augment: AugmentConfig) -> tf.Tensor:
    """Distort RGB grey levels float32 [h, w, 3] in [0, 255], with uniform draws [DRAWS] in [0, 1)."""
    brightness, contrast, saturation, hue, contrast_first = draw_strengths(uniform, augment)
    image = tf.clip_by_value(image + brightness, 0.0, _HIGHEST)
    image = tf.minimum(image * tf.where_v2(contrast_first, contrast, 1.0), _HIGHEST)
    untouched = tf.logical_and(tf.equal(saturation, 1.0), tf.equal(hue, 0.0))
    image = tf.cond(untouched, lambda: image, lambda: change_hsv(image, saturation, hue))
    return tf.minimum(image * tf.where_v2(contrast_first, 1.0, contrast), _HIGHEST)


def draw_strengths(uniform: tf.Tensor, augment: AugmentConfig) -> tuple[tf.Tensor, ...]:
    """Turn uniform draws [DRAWS] into scalars that leave the image alone where a switch is off.

    Returns:
      brightness in grey levels, contrast and saturation as factors, hue in sixths of a turn, and whether the
      contrast comes first (bool).
    """
    on = uniform[:4] < augment.probability
    strength = tf.unstack(uniform[4:8])
    ranges = (
        (-augment.brightness, augment.brightness, 0.0),
        (*augment.contrast, 1.0),
        (*augment.saturation, 1.0),
        (-augment.hue_degrees / 60.0, augment.hue_degrees / 60.0, 0.0),
    )
    drawn = [
        tf.where_v2(on[i], low + strength[i] * (high - low), neutral) for i, (low, high, neutral) in enumerate(ranges)
    ]
    return (*drawn, uniform[8] < 0.5)


def change_hsv(image: tf.Tensor, saturation: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
    """Scale the saturation (at most to 1) and turn the hue (by sixths of a turn) of RGB [h, w, 3].

    With V the largest channel, m the smallest and C = V - m, a saturation scaled by k scales C by k, and a
    channel is V - C (1 - w) with w a trapezoid over the hue: the hexagon of the HSV model, without branches.
    """
    red, green, blue = tf.unstack(image, axis=-1)
    value = tf.maximum(red, tf.maximum(green, blue))
    chroma = value - tf.minimum(red, tf.minimum(green, blue))
    per_chroma = 1.0 / tf.maximum(chroma, 1e-6)  # grey has no hue, and C = 0 takes any away
    sector = tf.where_v2(
        tf.equal(value, red),
        (green - blue) * per_chroma,
        tf.where_v2(tf.equal(value, green), (blue - red) * per_chroma + 2.0, (red - green) * per_chroma + 4.0),
    )
    sector = sector + hue  # in (-2, 6)
    sector = tf.where_v2(sector < 0.0, sector + 6.0, sector)
    chroma = tf.minimum(chroma * saturation, value)
    # how far each channel is below the value, in parts of the chroma
    below = (2.0 - tf.abs(sector - 3.0), tf.abs(sector - 2.0) - 1.0, tf.abs(sector - 4.0) - 1.0)
    planes = [value - chroma * tf.clip_by_value(part, 0.0, 1.0) for part in below]
    # tf.stack(axis=-1) is five times slower than this
    return tf.transpose(tf.stack(planes), [1, 2, 0])
