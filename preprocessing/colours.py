"""Photometric distortion: section 2.2 of the paper, with the ranges and the order of Caffe's SSD.

First brightness, then either contrast, saturation, hue or saturation, hue, contrast; each is applied with a certain
probability. Saturation and hue are those of HSV as in OpenCV. TensorFlow's kernels for them work pixel by pixel and
take 2.5 ms each for an input of 300x300 pixels on one core; the closed form here is a few operations on whole channels.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from utility.config.settings import AugmentConfig

DRAWS = 9  # random numbers per image: whether to apply each of four distortions, their strengths, and the order
_MAX_VALUE = 255.0


def distort(image: tf.Tensor, uniform: tf.Tensor, augment: AugmentConfig) -> tf.Tensor:
    """Distort an image float32 RGB [h, w, 3] in [0, 255].

    Args:
      image: the image.
      uniform: float32 [DRAWS], random numbers in [0, 1).
      augment: probability and ranges of the distortions.

    Returns:
      float32 RGB [h, w, 3] in [0, 255].
    """
    brightness, contrast, saturation, hue, contrast_first = draw_strengths(uniform, augment)
    image = tf.clip_by_value(image + brightness, 0.0, _MAX_VALUE)
    image = tf.minimum(image * tf.where_v2(contrast_first, contrast, 1.0), _MAX_VALUE)
    unchanged = tf.logical_and(tf.equal(saturation, 1.0), tf.equal(hue, 0.0))
    image = tf.cond(unchanged, lambda: image, lambda: adjust_saturation_and_hue(image, saturation, hue))
    return tf.minimum(image * tf.where_v2(contrast_first, 1.0, contrast), _MAX_VALUE)


def draw_strengths(uniform: tf.Tensor, augment: AugmentConfig) -> tuple[tf.Tensor, ...]:
    """Convert random numbers [DRAWS] in [0, 1) to the strengths of the distortions; one not applied has no effect.

    Returns:
      Scalars: the brightness to add, the factors of contrast and saturation, the hue shift in units of 60 degrees, and
      whether contrast comes first (bool).
    """
    is_applied = uniform[:4] < augment.probability
    strength = tf.unstack(uniform[4:8])
    ranges = (
        (-augment.brightness, augment.brightness, 0.0),
        (*augment.contrast, 1.0),
        (*augment.saturation, 1.0),
        (-augment.hue_degrees / 60.0, augment.hue_degrees / 60.0, 0.0),
    )
    strengths = [
        tf.where_v2(is_applied[i], low + strength[i] * (high - low), no_effect)
        for i, (low, high, no_effect) in enumerate(ranges)
    ]
    return (*strengths, uniform[8] < 0.5)


def adjust_saturation_and_hue(image: tf.Tensor, saturation: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
    """Multiply the saturation (up to 1) and shift the hue of an image in the HSV model.

    With the value V = max(R, G, B) and the chroma C = V - min(R, G, B), the saturation is C / V: the factor scales C.
    Each channel is then V - C (1 - w), w being a trapezoid function of the hue: HSV to RGB without branches.

    Args:
      image: float32 RGB [h, w, 3], 0 or more.
      saturation: float32 [], factor.
      hue: float32 [], shift in units of 60 degrees, in [-1, 1].

    Returns:
      float32 RGB [h, w, 3].
    """
    red, green, blue = tf.unstack(image, axis=-1)
    value = tf.maximum(red, tf.maximum(green, blue))
    chroma = value - tf.minimum(red, tf.minimum(green, blue))
    per_chroma = 1.0 / tf.maximum(chroma, 1e-6)  # where C is 0 (grey), the hue has no effect
    sector = tf.where_v2(
        tf.equal(value, red),
        (green - blue) * per_chroma,
        tf.where_v2(tf.equal(value, green), (blue - red) * per_chroma + 2.0, (red - green) * per_chroma + 4.0),
    )
    sector = sector + hue  # in [-2, 6]
    sector = tf.where_v2(sector < 0.0, sector + 6.0, sector)
    chroma = tf.minimum(chroma * saturation, value)
    # 1 - w of red, green and blue
    distances = (2.0 - tf.abs(sector - 3.0), tf.abs(sector - 2.0) - 1.0, tf.abs(sector - 4.0) - 1.0)
    planes = [value - chroma * tf.clip_by_value(distance, 0.0, 1.0) for distance in distances]
    # five times faster than tf.stack(axis=-1)
    return tf.transpose(tf.stack(planes), [1, 2, 0])
