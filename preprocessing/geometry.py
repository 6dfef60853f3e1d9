"""Geometric augmentation: zoom-out, crop and flip, drawn as one window before any pixel is decoded.

The window is the region that becomes the network input, in [0, 1] of the image; after a zoom-out it extends beyond the
image. Section 2.2 of the paper ("data augmentation") and section 3.6; details as in Caffe's SSD: ExpandImage and the
batch sampler.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from preprocessing import box_ops
from utility.config.settings import AugmentConfig

# random numbers for the zoom-out, for the choice of the window and the flip, and for each trial of a crop
_ZOOM_DRAWS, _CHOICE_DRAWS, _TRIAL_DRAWS = 4, 2, 4


class Placement(NamedTuple):
    """The pixels of the image that are visible in the input, and where; int32 [2], (y, x), except for `flip`."""

    source_start: tf.Tensor  # first visible pixel of the image
    source_size: tf.Tensor  # number of visible pixels, at least 1
    target_start: tf.Tensor  # first pixel of the input that they fill
    target_size: tf.Tensor  # number of pixels of the input that they fill, at least 1
    flip: tf.Tensor  # bool [], whether to flip left to right afterwards


def number_of_draws(augment: AugmentConfig) -> int:
    """Return the number of random numbers per image."""
    return _ZOOM_DRAWS + _CHOICE_DRAWS + len(augment.min_ious) * augment.crop_trials * _TRIAL_DRAWS


def draw_placement(
    boxes_yxyx: tf.Tensor,
    size: tf.Tensor,
    image_size: tuple[int, int],
    uniform: tf.Tensor,
    augment: AugmentConfig,
) -> Placement:
    """Draw zoom-out, crop and flip of an image.

    Args:
      boxes_yxyx: float32 [N, 4] in [0, 1] of the image, the objects that crops must overlap.
      size: int32 [2], height and width of the image, pixels.
      image_size: height and width of the input, pixels.
      uniform: float32 [number_of_draws(augment)], random numbers in [0, 1).
      augment: probabilities and ranges.
    """
    zoom, choice, trials = tf.split(uniform, [_ZOOM_DRAWS, _CHOICE_DRAWS, -1])
    canvas = draw_canvas(zoom, augment)
    crops = draw_crops(tf.reshape(trials, [len(augment.min_ious), augment.crop_trials, _TRIAL_DRAWS]), augment)
    crops = crops * tf.tile(canvas[2:] - canvas[:2], [2]) + tf.tile(canvas[:2], [2])  # to [0, 1] of the image
    window = choose_window(canvas, crops, accepted_crops(crops, boxes_yxyx, size, augment), choice[0])
    return place(window, size, image_size, choice[1] < augment.probability)


def draw_canvas(uniform: tf.Tensor, augment: AugmentConfig) -> tf.Tensor:
    """Draw a canvas around the image, float32 [4] in [0, 1] of the image, from random numbers [4] in [0, 1).

    With `probability` its sides are 1 to max_zoom_out times those of the image, and the image has a random position on
    it; otherwise it is the image. Caffe's ExpandImage.
    """
    is_zoomed = uniform[0] < augment.probability
    side = tf.where_v2(is_zoomed, 1.0 + uniform[1] * (augment.max_zoom_out - 1.0), 1.0)
    start = -uniform[2:4] * (side - 1.0)
    return tf.concat([start, start + side], axis=0)


def draw_crops(uniform: tf.Tensor, augment: AugmentConfig) -> tf.Tensor:
    """Draw crops float32 [..., 4] in [0, 1] of the canvas from random numbers [..., 4] in [0, 1).

    As Caffe's SampleBBox: first the scale, then the aspect ratio, limited to crops of this scale that fit the canvas.
    """
    smallest, largest = augment.crop_scale
    scale = smallest + uniform[..., 0] * (largest - smallest)
    low, high = tf.maximum(augment.crop_ratio[0], scale**2), tf.minimum(augment.crop_ratio[1], scale**-2)
    ratio = low + uniform[..., 1] * (high - low)
    extent = tf.stack([scale / tf.sqrt(ratio), scale * tf.sqrt(ratio)], axis=-1)
    start = uniform[..., 2:4] * (1.0 - extent)
    return tf.concat([start, start + extent], axis=-1)


def accepted_crops(crops: tf.Tensor, boxes_yxyx: tf.Tensor, size: tf.Tensor, augment: AugmentConfig) -> tf.Tensor:
    """Return which crops are accepted.

    Sampler s accepts a crop whose IoU with at least one object is min_ious[s] or more; with a minimum of 0 it accepts
    any crop, also in an image without objects. No sampler accepts a crop with less than a pixel of the image.

    Args:
      crops: float32 [S, T, 4] in [0, 1] of the image, T trials of each of S samplers.
      boxes_yxyx: float32 [N, 4] in [0, 1] of the image, the objects.
      size: int32 [2], height and width of the image, pixels.
      augment: min_ious and crop_trials.

    Returns:
      bool [S, T].
    """
    visible = box_ops.clip(crops, tf.constant([0.0, 0.0, 1.0, 1.0]))
    extent = (visible[..., 2:] - visible[..., :2]) * tf.cast(size, tf.float32)
    is_visible = tf.reduce_all(extent >= 1.0, axis=-1)
    # one padding row, so that the highest IoU in an image without objects is 0
    objects = tf.pad(boxes_yxyx, [[0, 1], [0, 0]])
    best_iou = tf.reduce_max(box_ops.iou(tf.reshape(crops, [-1, 4]), objects), axis=-1)
    best_iou = tf.reshape(best_iou, [len(augment.min_ious), augment.crop_trials])
    return tf.logical_and(is_visible, best_iou >= tf.constant(augment.min_ious)[:, tf.newaxis])


def choose_window(canvas: tf.Tensor, crops: tf.Tensor, accepted: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Choose with equal probability the canvas or the first accepted crop of a sampler that has one.

    Args:
      canvas: float32 [4] in [0, 1] of the image.
      crops: float32 [S, T, 4] in [0, 1] of the image, T trials of each of S samplers.
      accepted: bool [S, T].
      uniform: float32 [], random number in [0, 1).

    Returns:
      float32 [4], the window.
    """
    first = tf.argmax(tf.cast(accepted, tf.int32), axis=1, output_type=tf.int32)
    candidates = tf.concat([canvas[tf.newaxis], tf.gather(crops, first, batch_dims=1)], axis=0)
    usable = tf.where_v2(tf.concat([[True], tf.reduce_any(accepted, axis=1)], axis=0))[:, 0]
    count = tf.shape(usable)[0]
    number = tf.cast(uniform * tf.cast(count, tf.float32), tf.int32)
    return candidates[usable[tf.minimum(number, count - 1)]]


def place(window: tf.Tensor, size: tf.Tensor, image_size: tuple[int, int], flip: tf.Tensor) -> Placement:
    """Round a window to whole pixels of the image and of the input.

    `move_boxes` uses the rounded placement, so that boxes stay aligned with the pixels.

    Args:
      window: float32 [4] in [0, 1] of the image; at least a pixel of the image is inside.
      size: int32 [2], height and width of the image, pixels.
      image_size: height and width of the input, pixels.
      flip: bool [], copied to the placement.
    """
    size, target = tf.cast(size, tf.float32), tf.constant(image_size, tf.float32)
    start, extent = window[:2], window[2:] - window[:2]
    visible_start, visible_end = tf.maximum(start, 0.0), tf.minimum(window[2:], 1.0)
    source_start, source_size = _whole_pixels(visible_start * size, visible_end * size, size)
    scale = target / extent
    target_start, target_size = _whole_pixels((visible_start - start) * scale, (visible_end - start) * scale, target)
    return Placement(source_start, source_size, target_start, target_size, flip)


def _whole_pixels(start: tf.Tensor, end: tf.Tensor, limit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Round [start, end) to whole pixels in [0, limit), at least one; return first pixel and number, int32."""
    first = tf.minimum(tf.round(start), limit - 1.0)
    last = tf.minimum(tf.maximum(tf.round(end), first + 1.0), limit)
    return tf.cast(first, tf.int32), tf.cast(last - first, tf.int32)


def move_boxes(
    boxes_yxyx: tf.Tensor, placement: Placement, size: tf.Tensor, image_size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Convert boxes from [0, 1] of the image to [0, 1] of the input, and drop those whose centre is outside.

    Args:
      boxes_yxyx: float32 [N, 4] in [0, 1] of the image.
      placement: where the image's pixels are in the input.
      size: int32 [2], height and width of the image, pixels.
      image_size: height and width of the input, pixels.

    Returns:
      boxes: float32 [M, 4] in [0, 1] of the input, clipped.
      kept: bool [N], true for the M boxes that are kept.
    """
    pixels, start = tf.tile(tf.cast(size, tf.float32), [2]), tf.tile(placement.source_start, [2])
    scale = tf.cast(placement.target_size, tf.float32) / tf.cast(placement.source_size, tf.float32)
    target_start = tf.cast(tf.tile(placement.target_start, [2]), tf.float32)
    moved = (boxes_yxyx * pixels - tf.cast(start, tf.float32)) * tf.tile(scale, [2]) + target_start
    moved = moved / tf.constant(image_size * 2, tf.float32)
    ymin, xmin, ymax, xmax = tf.unstack(moved, axis=-1)
    moved = tf.where_v2(placement.flip, tf.stack([ymin, 1.0 - xmax, ymax, 1.0 - xmin], axis=-1), moved)
    centre = (moved[:, :2] + moved[:, 2:]) / 2
    kept = tf.reduce_all(tf.logical_and(centre >= 0.0, centre < 1.0), axis=1)
    return box_ops.clip(tf.boolean_mask(moved, kept), tf.constant([0.0, 0.0, 1.0, 1.0])), kept


def fill_input(pixels: tf.Tensor, placement: Placement, image_size: tuple[int, int]) -> tf.Tensor:
    """Pad resampled pixels with zeros to the input and flip it if the placement says so.

    Args:
      pixels: float32 [h, w, 3], the visible part of the image; (h, w) is `placement.target_size`.
      placement: where the pixels are in the input.
      image_size: height H and width W of the input, pixels.

    Returns:
      float32 [H, W, 3].
    """
    height, width = image_size
    before = placement.target_start
    after = tf.constant(image_size) - before - placement.target_size
    # padding a matrix of rows is much faster than padding three axes
    paddings = tf.stack([before, after], axis=1) * [[1], [3]]
    rows = tf.reshape(pixels, [placement.target_size[0], placement.target_size[1] * 3])
    filled = tf.reshape(tf.pad(rows, paddings), [height, width, 3])
    axes = tf.boolean_mask([1], [placement.flip])
    return tf.ensure_shape(tf.reverse(filled, axes), [height, width, 3])
