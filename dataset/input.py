"""The input functions: every image once for evaluation and demo, and an endless augmented stream for training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.records import parsing
from dataset.records.parsing import parse
from dataset.records.record_files import count_by_file, image_counts_in_info
from preprocessing import box_ops
from preprocessing.ssd_preprocessing import decode, preprocess_for_eval, preprocess_for_train
from preprocessing.views import is_cut, tile_windows
from utility.config.settings import Config, ViewConfig
from utility.errors import UserError
from utility.run.layout import RunLayout
from utility.run.sessions import cpu_session

InputFn = Callable[[], tf.data.Dataset]

# For functions of TensorFlow operations only: AutoGraph would take seconds to rewrite them, without effect.
_without_autograph = tf.autograph.experimental.do_not_convert


def _learnable(example: dict[str, tf.Tensor], use_difficult: bool) -> dict[str, tf.Tensor]:
    """Remove difficult objects from an example's boxes and labels, unless `use_difficult`."""
    keep = tf.logical_or(tf.logical_not(example["difficult"]), use_difficult)
    return {**example, **{key: tf.boolean_mask(example[key], keep) for key in ("boxes_yxyx", "labels")}}


def _configured(dataset: tf.data.Dataset, deterministic: bool) -> tf.data.Dataset:
    """Make a data set keep its order, or let it yield elements as soon as they are ready."""
    options = tf.data.Options()
    options.deterministic = deterministic
    return dataset.with_options(options)


# Evaluation and demo: every image once, in order, without augmentation.

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
        example = _learnable(parse(record, len(config.class_names)), use_difficult=False)
        size = tf.stack([example["height"], example["width"]])
        ground_truth = {name: example[name] for name in _GROUND_TRUTH}
        image = decode(example["image_encoded"])
        return {"image": image, "image_id": example["image_id"], "size": size, **ground_truth}

    def element(view: Picture) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        labels = {name: view.pop(name) for name in _GROUND_TRUTH}
        return view, labels

    @_without_autograph
    def input_fn() -> tf.data.Dataset:
        # one file after the other, because reading several at once would mix their records
        views = _views(tf.data.TFRecordDataset(shards), picture, config, threads)
        return _configured(views.map(element).padded_batch(batch_size), deterministic=True).prefetch(2)

    return input_fn


def pictures_input_fn(pictures: Callable[[], Iterable[tuple[str, np.ndarray]]], config: Config) -> InputFn:
    """Return an input function over pictures in memory, in batches of one picture or several tiles, in order.

    `pictures()` yields (name, RGB uint8 [h, w, 3]). Features are those of `eval_input_fn`, the name as `image_id`.
    """

    def picture(name: tf.Tensor, image: tf.Tensor) -> Picture:
        return {"image": image, "image_id": name, "size": tf.shape(image)[:2]}

    @_without_autograph
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
        view = {**picture, "image": image, "window_yxyx": window_yxyx, "windows": tf.shape(windows)[0]}
        if "labels" in picture:  # what the tile shows of the objects, in its coordinates
            boxes = picture["boxes_yxyx"]
            start, end = tf.split(window_yxyx, 2)
            shown = box_ops.clip(boxes, window_yxyx)
            keep = tf.logical_not(is_cut(box_ops.area(shown), box_ops.area(boxes)))
            relative_to_tile = (shown - tf.tile(start, [2])) / tf.tile(end - start, [2])
            view["boxes_yxyx"] = tf.boolean_mask(relative_to_tile, keep)
            view["labels"] = tf.boolean_mask(picture["labels"], keep)
        return view

    return tf.data.Dataset.from_tensor_slices((windows, relative)).map(tile)


# Training: an endless stream of shuffled, augmented batches that starts at any global step.

SHUFFLE_BUFFER = 1024  # encoded records; about 100 MB of VOC
# record files whose records are interleaved; a constant, because the order of images depends on it
_INTERLEAVED_FILES = 16


@dataclass(frozen=True)
class TrainingRecords:
    """The record files to train on, and how many images of each belong to an epoch."""

    images_by_file: Mapping[str, int]
    skip_empty_images: bool = False
    examples: Sequence[Mapping[str, Any]] = ()  # of the first records of each file, see `parsing.first_examples`

    @property
    def images(self) -> int:
        """Number of images of an epoch."""
        return sum(self.images_by_file.values())

    def faults_named(self, config: Config) -> AbstractContextManager[None]:
        """Return a context in which a broken record that TensorFlow stumbles over is a UserError that names it."""
        return parsing.faults_named([*self.images_by_file], len(config.class_names), jpeg_only=True)


def training_records(
    shards: list[str], config: Config, skip_empty_images: bool = False, skip_bad_records: bool = False
) -> TrainingRecords:
    """Count the images of an epoch in each record file; `skip_empty_images` leaves out those without usable objects.

    That takes reading all records, unless the converter has counted them; otherwise only lengths and a few records are
    read. `skip_bad_records` reads all records, decodes their pictures, and puts copies without the broken ones in the
    place of record files.

    Raises:
        UserError: as `count_by_file` and `first_examples`; or no image is left, so the first batch would never come.
    """
    if skip_bad_records:
        shards = parsing.without_faults(shards, len(config.class_names), jpeg_only=True)
    counts = count_by_file(shards)
    examples = parsing.first_examples(shards, config.class_names)
    if skip_empty_images:
        kind = "with_objects" if config.targets.use_difficult else "with_objects_not_difficult"
        counts = image_counts_in_info(counts, kind) or _count_with_objects(shards, config)
        if not any(counts.values()):
            raise UserError(
                f"--skip_empty_images leaves none of the images in {shards[0]}, ...: none has an object to learn from;"
                " leave the flag out or check the annotations"
            )
    return TrainingRecords(counts, skip_empty_images, examples)


def _count_with_objects(shards: list[str], config: Config) -> dict[str, int]:
    """Return how many images with objects to learn from each record file holds, by reading all records."""
    counts = {}
    with parsing.faults_named(shards, len(config.class_names)), cpu_session() as session:
        for shard in shards:
            examples = _examples(tf.data.TFRecordDataset(shard), config, skip_empty_images=True, threads=4)
            counts[shard] = int(session.run(examples.reduce(np.int64(0), lambda count, _: count + 1)))
    return counts


class Parallelism(NamedTuple):
    """How many records are read and preprocessed at once, and whether their order is exact."""

    readers: int = 8  # record files read at once
    threads: int = 24  # images preprocessed at once
    deterministic: bool = False  # the same seed gives the same batches; else the order varies a little, for speed


def training_input_fn(
    records: TrainingRecords,
    config: Config,
    layout: RunLayout,
    seed: int,
    first_step: Callable[[], int] = lambda: 0,
    parallelism: Parallelism = Parallelism(),  # noqa: B008 (immutable)
) -> InputFn:
    """Return the input function of training: endless, shuffled, augmented batches for the replicas of this worker.

    The n-th image of the stream is augmented with the seed (`seed`, n), and the stream starts at the batch of
    `first_step()`, which is called with the input function: a resumed run gets the batches of an uninterrupted one.

    An element is (features, labels) for one replica: `image` float32 [B, H, W, 3], `image_id` string [B];
    `boxes_yxyx` float32 [B, N, 4] in [0, 1] of the input and `labels` int64 [B, N], padded with label 0 to the
    largest number of objects in the batch. With one replica, unless deterministic, features also hold `host_wait`,
    float64 [], the seconds that the step waited for its batch.
    """
    if layout.batch_size != config.schedule.batch_size:
        raise ValueError(f"the layout has batches of {layout.batch_size} images, not {config.schedule.batch_size}")
    shard, network = layout.data_shard(records.images_by_file), config.network

    def augmented(index: tf.Tensor, example: dict[str, tf.Tensor]) -> tuple[dict, dict]:
        """Return the element of this worker's n-th example; workers draw different random numbers."""
        image, boxes, kept = preprocess_for_train(
            example["image_encoded"],
            example["boxes_yxyx"],
            tf.stack([tf.constant(seed, tf.int64), index * layout.workers + layout.worker]),
            network.image_size,
            network.channel_means_rgb,
            config.augment,
        )
        labels = tf.boolean_mask(example["labels"], kept)
        return {"image": image, "image_id": example["image_id"]}, {"boxes_yxyx": boxes, "labels": labels}

    @_without_autograph
    def input_fn() -> tf.data.Dataset:
        first = first_step() * layout.batch_size // layout.workers  # this worker's images before the first step
        start = first * shard.stride  # and their position in the stream over the shard's files
        dataset = _shuffled_records(list(shard.files), seed, start // shard.images, parallelism.readers)
        dataset = _examples(dataset, config, records.skip_empty_images, parallelism.threads)
        dataset = dataset.skip(start % shard.images)
        dataset = dataset.shard(shard.stride, shard.index) if shard.stride > 1 else dataset
        dataset = dataset.enumerate(first).map(augmented, num_parallel_calls=parallelism.threads)
        dataset = dataset.padded_batch(layout.per_replica_batch_size, drop_remainder=True)
        dataset = _configured(dataset, parallelism.deterministic).prefetch(2)
        # the strategy prefetches for several replicas, so the time would mean nothing; and no time is repeatable
        return dataset if parallelism.deterministic or layout.replicas > 1 else _timed(dataset)

    return input_fn


def _shuffled_records(shards: list[str], seed: int, first_epoch: int, readers: int) -> tf.data.Dataset:
    """Read all shards epoch after epoch, each epoch in its own order, which depends on `seed` and its number only."""

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices(shards).shuffle(len(shards), seed=seed + number)
        dataset = files.interleave(
            tf.data.TFRecordDataset,
            cycle_length=_INTERLEAVED_FILES,
            num_parallel_calls=min(readers, _INTERLEAVED_FILES),
            deterministic=True,  # always, because resuming depends on it; decoding, not reading, is the bottleneck
        )
        return dataset.shuffle(SHUFFLE_BUFFER, seed=seed + number)

    return tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(epoch)


@_without_autograph
def _examples(dataset: tf.data.Dataset, config: Config, skip_empty_images: bool, threads: int) -> tf.data.Dataset:
    """Parse records to examples with their usable objects; `skip_empty_images` leaves out those without any."""
    dataset = dataset.map(
        lambda record: _learnable(parse(record, len(config.class_names)), config.targets.use_difficult),
        num_parallel_calls=threads,
        deterministic=True,
    )
    return dataset.filter(lambda example: tf.size(example["labels"]) > 0) if skip_empty_images else dataset


def _timed(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Add `host_wait` to the features: the seconds from the request for an element to its arrival.

    `zip` requests its inputs in order: first the time, then the element.
    """
    clock = tf.data.Dataset.range(np.iinfo(np.int64).max).map(lambda _: tf.timestamp())

    def add_wait(requested: tf.Tensor, element: tuple[dict, dict]):
        features, labels = element
        with tf.control_dependencies(tf.nest.flatten(element)):
            return {**features, "host_wait": tf.timestamp() - requested}, labels

    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # a prefetch buffer would read the clock too early
    return tf.data.Dataset.zip((clock, dataset)).map(add_wait).with_options(options)
