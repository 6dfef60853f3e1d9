"""Where an augmented training image comes from: zoom-out, crop and flip as one window, drawn before any pixel.

All of it happens in [0, 1] of the image, where a zoomed-out canvas is just a window larger than the image.
Section 2.2 of the paper ("data augmentation") and 3.6; the details are those of Caffe's SSD: ExpandImage and
the batch sampler.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from utility.boxes import box_ops
from utility.config.settings import AugmentConfig

_ZOOM_DRAWS, _PICK_DRAWS, _TRIAL_DRAWS = 4, 2, 4


class Placement(NamedTuple):
    """Which pixels of the image go where in the input; int32 [2], (y, x), but for `flip`."""

    source_start: tf.Tensor  # first pixel of the image that is shown
    source_size: tf.Tensor  # how many, at least 1
    target_start: tf.Tensor  # where they begin in the input
    target_size: tf.Tensor  # how many pixels of the input they fill, at least 1
    flip: tf.Tensor  # bool [], left to right, after all else


def draws(augment: AugmentConfig) -> int:
    """Return how many random numbers one image takes."""
    return _ZOOM_DRAWS + _PICK_DRAWS + len(augment.min_ious) * augment.crop_trials * _TRIAL_DRAWS


def draw_placement(
    boxes_yxyx: tf.Tensor,
    size: tf.Tensor,
    image_size: tuple[int, int],
    uniform: tf.Tensor,
    augment: AugmentConfig,
) -> Placement:
    """Draw where an image's pixels go.

    Args:
      boxes_yxyx: float32 [N, 4] in [0, 1] of the image.
      size: int32 [2], height and width of the image, pixels.
      image_size: height and width of the input, pixels.
      uniform: float32 [draws(augment)] in [0, 1).
      augment: the ranges.
    """
    zoom, pick, trials = tf.split(uniform, [_ZOOM_DRAWS, _PICK_DRAWS, -1])
    canvas = draw_canvas(zoom, augment)
    crops = draw_crops(tf.reshape(trials, [len(augment.min_ious), augment.crop_trials, _TRIAL_DRAWS]), augment)
    crops = _within(crops, canvas)
    window = choose_window(canvas, crops, accepted(crops, boxes_yxyx, size, augment), pick[0])
    return place(window, size, image_size, pick[1] < augment.probability)


def draw_canvas(uniform: tf.Tensor, augment: AugmentConfig) -> tf.Tensor:
    """Zoom out or not: the canvas float32 [4] around the image, from uniform draws [4].

    The canvas is 1 to max_zoom_out times as wide and high as the image, which lies anywhere on it.
    """
    zoomed = uniform[0] < augment.probability
    side = tf.where_v2(zoomed, 1.0 + uniform[1] * (augment.max_zoom_out - 1.0), 1.0)
    start = -uniform[2:4] * (side - 1.0)
    return tf.concat([start, start + side], axis=0)


def draw_crops(uniform: tf.Tensor, augment: AugmentConfig) -> tf.Tensor:
    """Draw crops float32 [..., 4] in [0, 1] of the canvas, from uniform draws [..., 4].

    Scale and ratio are drawn as Caffe's SampleBBox does: the ratio among those that fit at that scale.
    """
    scale = _stretch(uniform[..., 0], *augment.crop_scale)
    low, high = augment.crop_ratio
    ratio = _stretch(uniform[..., 1], tf.maximum(low, scale**2), tf.minimum(high, scale**-2))
    extent = tf.stack([scale / tf.sqrt(ratio), scale * tf.sqrt(ratio)], axis=-1)
    start = uniform[..., 2:4] * (1.0 - extent)
    return tf.concat([start, start + extent], axis=-1)


def _stretch(uniform: tf.Tensor, low: tf.Tensor | float, high: tf.Tensor | float) -> tf.Tensor:
    return low + uniform * (high - low)


def _within(crops: tf.Tensor, canvas: tf.Tensor) -> tf.Tensor:
    """Bring crops [..., 4] from [0, 1] of the canvas [4] into [0, 1] of the image."""
    start, extent = canvas[:2], canvas[2:] - canvas[:2]
    return crops * tf.tile(extent, [2]) + tf.tile(start, [2])


def accepted(crops: tf.Tensor, boxes_yxyx: tf.Tensor, size: tf.Tensor, augment: AugmentConfig) -> tf.Tensor:
    """Tell which crops [S, T, 4] their sampler S accepts, bool [S, T].

    A sampler accepts a crop whose IoU with any object [N, 4] is at least its min_ious[s]; the one of 0 takes
    any crop, also where there is no object. A crop of the canvas that shows less than a pixel of the image,
    [h, w] pixels, is refused by all.
    """
    shown = box_ops.clip(crops, tf.constant([0.0, 0.0, 1.0, 1.0]))
    extent = (shown[..., 2:] - shown[..., :2]) * tf.cast(size, tf.float32)
    visible = tf.reduce_all(extent >= 1.0, axis=-1)
    # one row of padding: the best of no objects is 0
    objects = tf.pad(boxes_yxyx, [[0, 1], [0, 0]])
    best = tf.reduce_max(box_ops.iou(tf.reshape(crops, [-1, 4]), objects), axis=-1)
    best = tf.reshape(best, [len(augment.min_ious), augment.crop_trials])
    return tf.logical_and(visible, best >= tf.constant(augment.min_ious)[:, tf.newaxis])


def choose_window(canvas: tf.Tensor, crops: tf.Tensor, accepted: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Pick one window [4] uniformly among the whole canvas and each sampler's first accepted crop.

    crops [S, T, 4], accepted bool [S, T], uniform [] in [0, 1). A sampler without success has no say.
    """
    first = tf.argmax(tf.cast(accepted, tf.int32), axis=1, output_type=tf.int32)
    candidates = tf.concat([canvas[tf.newaxis], tf.gather(crops, first, batch_dims=1)], axis=0)
    usable = tf.where_v2(tf.concat([[True], tf.reduce_any(accepted, axis=1)], axis=0))[:, 0]
    count = tf.shape(usable)[0]
    number = tf.cast(uniform * tf.cast(count, tf.float32), tf.int32)
    return candidates[usable[tf.minimum(number, count - 1)]]


def place(window: tf.Tensor, size: tf.Tensor, image_size: tuple[int, int], flip: tf.Tensor) -> Placement:
    """Round a window [4] to whole pixels of the image on one side, and of the input on the other.

    `move_boxes` follows the rounded placement, so that boxes and pixels never part.
    """
    size, target = tf.cast(size, tf.float32), tf.constant(image_size, tf.float32)
    start, extent = window[:2], window[2:] - window[:2]
    shown_start, shown_end = tf.maximum(start, 0.0), tf.minimum(window[2:], 1.0)
    source_start, source_size = _whole_pixels(shown_start * size, shown_end * size, size)
    scale = target / extent
    target_start, target_size = _whole_pixels((shown_start - start) * scale, (shown_end - start) * scale, target)
    return Placement(source_start, source_size, target_start, target_size, flip)


def _whole_pixels(start: tf.Tensor, end: tf.Tensor, limit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Round [start, end) to at least one whole pixel in [0, limit); returns start and size, int32."""
    first = tf.minimum(tf.round(start), limit - 1.0)
    last = tf.minimum(tf.maximum(tf.round(end), first + 1.0), limit)
    return tf.cast(first, tf.int32), tf.cast(last - first, tf.int32)


def move_boxes(
    boxes_yxyx: tf.Tensor, placement: Placement, size: tf.Tensor, image_size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Bring boxes [N, 4] from [0, 1] of the image into [0, 1] of the input.

    Returns:
      boxes: float32 [M, 4], those whose centre is inside of the input, clipped to it.
      kept: bool [N], which those are.
    """
    pixels, start = tf.tile(tf.cast(size, tf.float32), [2]), tf.tile(placement.source_start, [2])
    scale = tf.cast(placement.target_size, tf.float32) / tf.cast(placement.source_size, tf.float32)
    target_start = tf.cast(tf.tile(placement.target_start, [2]), tf.float32)
    moved = (boxes_yxyx * pixels - tf.cast(start, tf.float32)) * tf.tile(scale, [2]) + target_start
    moved = moved / tf.constant(image_size * 2, tf.float32)
    moved = tf.where_v2(placement.flip, _mirrored(moved), moved)
    centre = (moved[:, :2] + moved[:, 2:]) / 2
    kept = tf.reduce_all(tf.logical_and(centre >= 0.0, centre < 1.0), axis=1)
    return box_ops.clip(tf.boolean_mask(moved, kept), tf.constant([0.0, 0.0, 1.0, 1.0])), kept


def _mirrored(boxes_yxyx: tf.Tensor) -> tf.Tensor:
    ymin, xmin, ymax, xmax = tf.unstack(boxes_yxyx, axis=-1)
    return tf.stack([ymin, 1.0 - xmax, ymax, 1.0 - xmin], axis=-1)


def fill_input(pixels: tf.Tensor, placement: Placement, image_size: tuple[int, int]) -> tf.Tensor:
    """Put pixels [h, w, 3] in their place in an input [H, W, 3] of zeros, and flip it if so drawn."""
    height, width = image_size
    before = placement.target_start
    after = tf.constant(image_size) - before - placement.target_size
    # a matrix of rows pads much faster than three axes
    sides = tf.stack([before, after], axis=1) * [[1], [3]]
    rows = tf.reshape(pixels, [placement.target_size[0], placement.target_size[1] * 3])
    filled = tf.reshape(tf.pad(rows, sides), [height, width, 3])
    axes = tf.boolean_mask([1], [placement.flip])
    return tf.ensure_shape(tf.reverse(filled, axes), [height, width, 3])
