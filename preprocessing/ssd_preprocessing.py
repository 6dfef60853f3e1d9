"""The SSD augmentation for training, and the preprocessing that evaluation, demo and export share.

For training, zoom-out, crop and flip are drawn first as one window, from the boxes and the size of the image alone
(geometry.py). Then only the pixels inside the window are decoded, resampled once to the network input, and distorted
there (colours.py). Training and evaluation both resample as TF1's `resize_bilinear` (no half-pixel centres), so that
the position of a box relative to its object is the same in both.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from preprocessing import colours, geometry
from preprocessing.views import reduced_side
from utility.config.settings import AugmentConfig


def reduce(image: tf.Tensor, max_side: int | None) -> tf.Tensor:
    """Reduce an image [h, w, 3] in [0, 255] so that its longer side is `max_side` pixels; a smaller image is unchanged.

    Each pixel is the mean of the old ones around it, by a triangle as wide as two new pixels: the filter by which the
    converter reduces training images. The result is float32, or, without `max_side`, the image itself.
    """
    if max_side is None:
        return image
    image = tf.cast(image, tf.float32)

    def reduced() -> tf.Tensor:
        size = reduced_size(image, max_side)
        return tf.raw_ops.ScaleAndTranslate(
            images=image[tf.newaxis],
            size=size,
            scale=tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32),
            translation=[0.0, 0.0],
            kernel_type="triangle",
            antialias=True,
        )[0]

    result = tf.cond(tf.reduce_max(tf.shape(image)[:2]) > max_side, reduced, lambda: image)
    result.set_shape([None, None, 3])
    return result


def reduced_size(image: tf.Tensor, max_side: int) -> tf.Tensor:
    """Return height and width, int32 [2], of an image [h, w, 3] whose longer side is reduced to `max_side` pixels."""
    size = tf.shape(image)[:2]
    return tf.maximum(reduced_side(size, tf.reduce_max(size), max_side), 1)


def preprocess_for_eval(
    image: tf.Tensor,
    image_size: tuple[int, int],
    channel_means_rgb: tuple[float, float, float],
    max_side: int | None = None,
) -> tf.Tensor:
    """Convert an image to the network input.

    Args:
      image: uint8 RGB [h, w, 3], or float32 in [0, 255].
      image_size: height H and width W of the input, pixels.
      channel_means_rgb: in [0, 255].
      max_side: pixels, to which the longer side of a larger image is reduced first, as the converter does.

    Returns:
      float32 BGR [H, W, 3] in [0, 255] minus the channel means.
    """
    return to_network_input(resize(reduce(image, max_side), image_size), channel_means_rgb)


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decode a JPEG, PNG, GIF or BMP file, string [], to uint8 RGB [h, w, 3]."""
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


class TrainingExample(NamedTuple):
    """An augmented image with the objects that it still contains."""

    image: tf.Tensor  # float32 BGR [H, W, 3] minus the channel means; 0 in the border of a zoom-out
    boxes_yxyx: tf.Tensor  # float32 [M, 4] in [0, 1] of the input, clipped
    kept: tf.Tensor  # bool [N], true for the M objects that are kept


def preprocess_for_train(
    encoded: tf.Tensor,
    boxes_yxyx: tf.Tensor,
    seed: tf.Tensor,
    image_size: tuple[int, int],
    channel_means_rgb: tuple[float, float, float],
    augment: AugmentConfig,
) -> TrainingExample:
    """Augment an image and its boxes.

    Args:
      encoded: string [], a JPEG file.
      boxes_yxyx: float32 [N, 4] in [0, 1] of the image, the objects; they are clipped to the image first.
      seed: int32 or int64 [2]; the same seed gives the same result.
      image_size: height H and width W of the network input, pixels.
      channel_means_rgb: in [0, 255].
      augment: probabilities and ranges.
    """
    size = tf.image.extract_jpeg_shape(encoded)[:2]
    # after a zoom-out, a box beyond the image would be an object without any pixel of the image
    boxes_yxyx = tf.clip_by_value(boxes_yxyx, 0.0, 1.0)
    geometry_draws, colour_draws = tf.split(
        tf.random.stateless_uniform([geometry.number_of_draws(augment) + colours.DRAWS], seed),
        [geometry.number_of_draws(augment), colours.DRAWS],
    )
    placement = geometry.draw_placement(boxes_yxyx, size, image_size, geometry_draws, augment)
    crop = tf.concat([placement.source_start, placement.source_size], axis=0)
    pixels = resize(tf.image.decode_and_crop_jpeg(encoded, crop, channels=3), placement.target_size)
    pixels = to_network_input(colours.distort(pixels, colour_draws, augment), channel_means_rgb)
    boxes, kept = geometry.move_boxes(boxes_yxyx, placement, size, image_size)
    return TrainingExample(geometry.fill_input(pixels, placement, image_size), boxes, kept)


def resize(image: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Resize an image [h, w, 3] to `size` (height, width) as float32, bilinear: pixel j is sampled at j * old / new."""
    return tf.image.resize_bilinear(image[tf.newaxis], size, half_pixel_centers=False)[0]


def to_network_input(image: tf.Tensor, channel_means_rgb: tuple[float, float, float]) -> tf.Tensor:
    """Convert RGB [h, w, 3] in [0, 255] to float32 BGR minus the channel means, as in Caffe's VGG."""
    # Eigen broadcasts and reverses whole rows ten times faster than the three channels alone: so columns and channels
    # are reversed together, then the columns are reversed back.
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    means = tf.tile(tf.constant(channel_means_rgb), [width])
    centered = tf.reshape(image, [height, width * 3]) - means
    reversed_both = tf.reverse(tf.reshape(centered, [height, width, 3]), axis=[1, 2])
    return tf.ensure_shape(tf.reverse(reversed_both, axis=[1]), image.shape)
