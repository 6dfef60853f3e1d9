"""The input functions of evaluation and demo: every image once, in order, without augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.input.reading import InputFn, configured, element, learnable, without_autograph
from dataset.records import parsing
from preprocessing.ssd_preprocessing import decode, preprocess_for_eval
from utility.config.settings import Config


def eval_input_fn(shards: list[str], config: Config, batch_size: int, threads: int = 24) -> InputFn:
    """Return the input function of evaluation: every image once, in the order of the records.

    Elements are those of `training_input_fn`, without augmentation; the last batch may be smaller. Features also hold
    `size` int32 [B, 2], height and width of the original image in pixels. Labels leave out difficult objects.
    """

    def preprocess(record: tf.Tensor):
        example = parsing.parse(record, len(config.class_names))
        image = preprocess_for_eval(
            decode(example["image_encoded"]), config.network.image_size, config.network.channel_means_rgb
        )
        example = learnable(example, use_difficult=False)
        features, labels = element(image, example, example["boxes_yxyx"], example["labels"])
        return {**features, "size": tf.stack([example["height"], example["width"]])}, labels

    @without_autograph
    def input_fn() -> tf.data.Dataset:
        # one file after the other, because reading several at once would mix their records
        dataset = tf.data.TFRecordDataset(shards)
        dataset = dataset.map(preprocess, num_parallel_calls=threads)
        return configured(dataset.padded_batch(batch_size), deterministic=True).prefetch(2)

    return input_fn


def pictures_input_fn(pictures: Callable[[], Iterable[tuple[str, np.ndarray]]], config: Config) -> InputFn:
    """Return an input function over pictures in memory, in batches of one, in order.

    `pictures()` yields (name, RGB uint8 [h, w, 3]). Features are those of `eval_input_fn`, the name as `image_id`.
    """

    def preprocess(name: tf.Tensor, image: tf.Tensor) -> dict[str, tf.Tensor]:
        network = config.network
        return {
            "image": preprocess_for_eval(image, network.image_size, network.channel_means_rgb),
            "image_id": name,
            "size": tf.shape(image)[:2],
        }

    @without_autograph
    def input_fn() -> tf.data.Dataset:
        dataset = tf.data.Dataset.from_generator(pictures, (tf.string, tf.uint8), ([], [None, None, 3]))
        return dataset.map(preprocess).batch(1).prefetch(1)

    return input_fn
