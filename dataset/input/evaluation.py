"""The input functions of evaluation and demo: every image once, in order, without augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.input.reading import InputFn, configured, learnable, without_autograph
from dataset.records import parsing
from preprocessing.ssd_preprocessing import decode, preprocess_for_eval
from preprocessing.views import MOST_CUT, tile_windows
from utility.boxes import box_ops
from utility.config.settings import Config, ViewConfig

_TILES_AT_ONCE = 8  # of the demo's pictures
_LARGE_PICTURES_AT_ONCE = 2  # decoded, before tiles are cut from them

# `image` uint8 RGB [h, w, 3], `image_id` string [], `size` int32 [2], and the ground truth where it is known
Picture = dict[str, tf.Tensor]
_GROUND_TRUTH = ("boxes_yxyx", "labels")  # float32 [N, 4] in [0, 1] and int [N]


def eval_input_fn(shards: list[str], config: Config, batch_size: int, threads: int = 24) -> InputFn:
    """Return the input function of evaluation: every image once, in the order of the records.

    Elements are (features, labels). Features are `image` float32 [B, H, W, 3], BGR minus the channel means, `image_id`
    string [B], and `size` int32 [B, 2], height and width of the original picture in pixels. Labels, for the losses, are
    `boxes_yxyx` and `labels` as the model_fn takes them, without difficult objects. The last batch may be smaller.

    With `config.views.tile_size` an element is a tile. Then there are also `window_yxyx` float32 [B, 4], where it lies
    in its picture, in [0, 1], and `windows` int32 [B], how many its picture has; they follow one another.
    """

    def picture(record: tf.Tensor) -> Picture:
        example = learnable(parsing.parse(record, len(config.class_names)), use_difficult=False)
        size = tf.stack([example["height"], example["width"]])
        ground_truth = {name: example[name] for name in _GROUND_TRUTH}
        return {
            "image": decode(example["image_encoded"]),
            "image_id": example["image_id"],
            "size": size,
            **ground_truth,
        }

    def element(view: Picture) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        labels = {name: view.pop(name) for name in _GROUND_TRUTH}
        return view, labels

    @without_autograph
    def input_fn() -> tf.data.Dataset:
        # one file after the other, because reading several at once would mix their records
        views = _views(tf.data.TFRecordDataset(shards), picture, config, threads)
        return configured(views.map(element).padded_batch(batch_size), deterministic=True).prefetch(2)

    return input_fn


def pictures_input_fn(pictures: Callable[[], Iterable[tuple[str, np.ndarray]]], config: Config) -> InputFn:
    """Return an input function over pictures in memory, in batches of one picture or several tiles, in order.

    `pictures()` yields (name, RGB uint8 [h, w, 3]). Features are those of `eval_input_fn`, the name as `image_id`.
    """

    def picture(name: tf.Tensor, image: tf.Tensor) -> Picture:
        return {"image": image, "image_id": name, "size": tf.shape(image)[:2]}

    @without_autograph
    def input_fn() -> tf.data.Dataset:
        dataset = tf.data.Dataset.from_generator(pictures, (tf.string, tf.uint8), ([], [None, None, 3]))
        return _views(dataset, picture, config, 1).batch(_TILES_AT_ONCE if config.views.tile_size else 1).prefetch(1)

    return input_fn


def _views(dataset: tf.data.Dataset, picture: Callable[..., Picture], config: Config, threads: int) -> tf.data.Dataset:
    """Return what the network is shown of each picture that `picture` makes of an element: the whole, or its tiles."""

    def preprocess(view: Picture) -> Picture:
        network, max_side = config.network, config.views.max_side
        image = preprocess_for_eval(view["image"], network.image_size, network.channel_means_rgb, max_side)
        return {**view, "image": image}

    if config.views.tile_size is None:
        return dataset.map(lambda *element: preprocess(picture(*element)), num_parallel_calls=threads)
    pictures = dataset.map(picture, num_parallel_calls=_LARGE_PICTURES_AT_ONCE)
    tiles = pictures.flat_map(lambda whole: _tiles(whole, config.views))
    return tiles.map(preprocess, num_parallel_calls=threads)


def _tiles(picture: Picture, views: ViewConfig) -> tf.data.Dataset:
    size = tf.shape(picture["image"])[:2]
    cut = lambda size: tile_windows(size[0], size[1], views.tile_size or 0, views.tile_overlap)  # noqa: E731
    windows = tf.ensure_shape(tf.numpy_function(cut, [size], tf.int32), [None, 4])
    relative = tf.cast(windows / tf.tile(size, [2]), tf.float32)

    def tile(window: tf.Tensor, window_yxyx: tf.Tensor) -> Picture:
        ymin, xmin, ymax, xmax = tf.unstack(window)
        image = picture["image"][ymin:ymax, xmin:xmax]
        shown = _ground_truth_in(window_yxyx, picture) if "labels" in picture else {}
        return {**picture, **shown, "image": image, "window_yxyx": window_yxyx, "windows": tf.shape(windows)[0]}

    return tf.data.Dataset.from_tensor_slices((windows, relative)).map(tile)


def _ground_truth_in(window_yxyx: tf.Tensor, picture: Picture) -> Picture:
    """Return the ground truth that a tile shows, in its coordinates; without what would be difficult there."""
    boxes = picture["boxes_yxyx"]
    start, end = tf.split(window_yxyx, 2)
    shown = box_ops.clip(boxes, window_yxyx)
    keep = box_ops.area(shown) >= (1 - MOST_CUT) * box_ops.area(boxes)
    relative = (shown - tf.tile(start, [2])) / tf.tile(end - start, [2])
    return {"boxes_yxyx": tf.boolean_mask(relative, keep), "labels": tf.boolean_mask(picture["labels"], keep)}
