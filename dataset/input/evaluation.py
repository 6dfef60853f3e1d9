"""The input functions of evaluation and demo: every image once, in order, without augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.input.reading import InputFn, configured, without_autograph
from dataset.records import parsing
from preprocessing.ssd_preprocessing import decode, preprocess_for_eval
from preprocessing.views import tile_windows
from utility.config.settings import Config, ViewConfig

_TILES_AT_ONCE = 8  # of the demo's pictures
_LARGE_PICTURES_AT_ONCE = 2  # decoded, before tiles are cut from them

Picture = dict[str, tf.Tensor]  # `image` uint8 RGB [h, w, 3], `image_id` string [], `size` int32 [2]


def eval_input_fn(shards: list[str], config: Config, batch_size: int, threads: int = 24) -> InputFn:
    """Return the input function of evaluation: every image once, in the order of the records.

    Elements are features: `image` float32 [B, H, W, 3], BGR minus the channel means, `image_id` string [B], and `size`
    int32 [B, 2], height and width of the original picture in pixels. The last batch may be smaller.

    With `config.views.tile_size` an element is a tile. Then there are also `window_yxyx` float32 [B, 4], where it lies
    in its picture, in [0, 1], and `windows` int32 [B], how many its picture has; they follow one another.
    """

    def picture(record: tf.Tensor) -> Picture:
        example = parsing.parse(record, len(config.class_names))
        size = tf.stack([example["height"], example["width"]])
        return {"image": decode(example["image_encoded"]), "image_id": example["image_id"], "size": size}

    @without_autograph
    def input_fn() -> tf.data.Dataset:
        # one file after the other, because reading several at once would mix their records
        views = _views(tf.data.TFRecordDataset(shards), picture, config, threads)
        return configured(views.batch(batch_size), deterministic=True).prefetch(2)

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
        return {**picture, "image": image, "window_yxyx": window_yxyx, "windows": tf.shape(windows)[0]}

    return tf.data.Dataset.from_tensor_slices((windows, relative)).map(tile)
