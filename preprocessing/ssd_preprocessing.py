"""The SSD augmentation for training, and the one preprocessing for evaluation, demo and export.

Training draws all geometry first, from the boxes and the image's size alone: a zoom-out, a crop and a flip
come to one window in the coordinates of the image. Only the pixels inside of it are decoded, sampled once into
the network's input, and coloured there (colours.py). Both ways resample alike, as TF1's `resize_bilinear` does
(no half-pixel centres): what a box of the input covers is the same in training and in evaluation.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from preprocessing import colours, geometry
from utility.config.settings import AugmentConfig


def preprocess_for_eval(
    image: tf.Tensor, image_size: tuple[int, int], channel_means_rgb: tuple[float, float, float]
) -> tf.Tensor:
    """Turn a picture, RGB grey levels uint8 [h, w, 3], into the network's input for an `image_size` of (H, W).

    Returns:
      float32 [H, W, 3], BGR grey levels minus the channel means.
    """
    return to_network_input(resize(image, image_size), channel_means_rgb)


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decode a picture (JPEG, PNG, GIF or BMP; string []) to RGB uint8 [h, w, 3]."""
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


class TrainingExample(NamedTuple):
    """An augmented image with the objects that are still in it."""

    image: tf.Tensor  # float32 [H, W, 3], BGR minus the channel means; 0 where the zoom-out filled
    boxes_yxyx: tf.Tensor  # float32 [M, 4] in [0, 1] of the input, clipped
    kept: tf.Tensor  # bool [N], which objects those are


def preprocess_for_train(
    encoded: tf.Tensor,
    boxes_yxyx: tf.Tensor,
    seed: tf.Tensor,
    image_size: tuple[int, int],
    channel_means_rgb: tuple[float, float, float],
    augment: AugmentConfig,
) -> TrainingExample:
    """Augment a JPEG (string []) and its boxes, float32 [N, 4] in [0, 1] of the image.

    Args:
      encoded: the picture.
      boxes_yxyx: its objects; what lies outside of the image is cut off.
      seed: int32 or int64 [2]; the same seed gives the same result.
      image_size: height and width of the network's input, pixels.
      channel_means_rgb: grey levels.
      augment: the ranges.
    """
    size = tf.image.extract_jpeg_shape(encoded)[:2]
    # a box beyond the image would become an object of nothing but fill when zoomed out
    boxes_yxyx = tf.clip_by_value(boxes_yxyx, 0.0, 1.0)
    geometry_draws, colour_draws = tf.split(
        tf.random.stateless_uniform([geometry.draws(augment) + colours.DRAWS], seed),
        [geometry.draws(augment), colours.DRAWS],
    )
    placement = geometry.draw_placement(boxes_yxyx, size, image_size, geometry_draws, augment)
    crop = tf.concat([placement.source_start, placement.source_size], axis=0)
    pixels = resize(tf.image.decode_and_crop_jpeg(encoded, crop, channels=3), placement.target_size)
    pixels = to_network_input(colours.distort(pixels, colour_draws, augment), channel_means_rgb)
    boxes, kept = geometry.move_boxes(boxes_yxyx, placement, size, image_size)
    return TrainingExample(geometry.fill_input(pixels, placement, image_size), boxes, kept)


def resize(image: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Resample an image [h, w, 3] to `size` (height, width): float32, bilinear, pixel j from j * old / new."""
    return tf.image.resize_bilinear(image[tf.newaxis], size, half_pixel_centers=False)[0]


def to_network_input(image: tf.Tensor, channel_means_rgb: tuple[float, float, float]) -> tf.Tensor:
    """Turn RGB grey levels [h, w, 3] into BGR minus the channel means, float32, as VGG from Caffe expects."""
    # Eigen broadcasts along rows, and reverses whole rows, ten times faster than along three channels:
    # columns and channels turned round, then columns turned back.
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    means = tf.tile(tf.constant(channel_means_rgb), [width])
    centred = tf.reshape(image, [height, width * 3]) - means
    turned = tf.reverse(tf.reshape(centred, [height, width, 3]), axis=[1, 2])
    return tf.ensure_shape(tf.reverse(turned, axis=[1]), image.shape)
