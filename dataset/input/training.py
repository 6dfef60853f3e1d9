"""The input function of training: an endless stream of augmented batches that starts at any global step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.input.reading import InputFn, configured, element, first_examples, learnable, without_autograph
from dataset.records.parsing import parse
from dataset.records.record_files import count_by_file, image_counts_in_info
from dataset.records.scanning import faults_named, image_counter, without_faults
from preprocessing.ssd_preprocessing import preprocess_for_train
from utility.config.settings import Config
from utility.run.layout import RunLayout

SHUFFLE_BUFFER = 1024  # encoded records; about 100 MB of VOC
_INTERLEAVED_FILES = (
    16  # record files whose records are interleaved; a constant, because the order of images depends on it
)


@dataclass(frozen=True)
class TrainingRecords:
    """The record files to train on, how many images of each belong to an epoch, and examples without pictures."""

    images_by_file: Mapping[str, int]
    skip_empty_images: bool = False
    examples: Sequence[Mapping[str, Any]] = ()  # of the first records of each file, see `first_examples`

    @property
    def images(self) -> int:
        """Number of images of an epoch."""
        return sum(self.images_by_file.values())

    def faults_named(self, config: Config) -> AbstractContextManager[None]:
        """Return a context in which a broken record that TensorFlow stumbles over is a ValueError that names it."""
        return faults_named([*self.images_by_file], len(config.class_names), jpeg_only=True)


class Parallelism(NamedTuple):
    """How many records are read and preprocessed at once, and whether their order is exact."""

    readers: int = 8  # record files read at once
    threads: int = 24  # images preprocessed at once
    deterministic: bool = False  # the same seed gives the same batches; else the order varies a little, for speed


def training_records(
    shards: list[str], config: Config, skip_empty_images: bool = False, skip_bad_records: bool = False
) -> TrainingRecords:
    """Count the images of an epoch in each record file; `skip_empty_images` leaves out those without usable objects.

    That takes reading all records, unless the converter has counted them; otherwise only lengths and a few records are
    read. `skip_bad_records` reads all records, decodes their pictures, and puts copies without the broken ones in the
    place of record files.

    Raises:
        ValueError: as `count_by_file` and `first_examples`; or no image is left, so the first batch would never come.
    """
    if skip_bad_records:
        shards = without_faults(shards, len(config.class_names), jpeg_only=True)
    counts = count_by_file(shards)
    examples = first_examples(shards, config.class_names)
    if skip_empty_images:
        counts = _count_with_objects(counts, config)
        if not any(counts.values()):
            raise ValueError(
                f"--skip_empty_images leaves none of the images in {shards[0]}, ...: none has an object to learn from;"
                " leave the flag out or check the annotations"
            )
    return TrainingRecords(counts, skip_empty_images, examples)


def _count_with_objects(counts: Mapping[str, int], config: Config) -> dict[str, int]:
    """Count the images with objects to learn from in each record file; the files hold `counts` records."""
    kind, shards = "with_objects" if config.targets.use_difficult else "with_objects_not_difficult", [*counts]
    written = image_counts_in_info(counts, kind)
    if written is not None:
        return written
    with faults_named(shards, len(config.class_names)), image_counter(len(config.class_names)) as count:
        return {shard: getattr(count([shard]), kind) for shard in shards}


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
    shard = layout.data_shard(records.images_by_file)
    augmented = _augmentation(config, layout, seed)

    @without_autograph
    def input_fn() -> tf.data.Dataset:
        first = first_step() * layout.batch_size // layout.workers  # this worker's images before the first step
        start = first * shard.stride  # and their position in the stream over the shard's files
        dataset = _shuffled_records(list(shard.files), seed, start // shard.images, parallelism.readers)
        dataset = _examples(dataset, config, records.skip_empty_images, parallelism.threads)
        dataset = dataset.skip(start % shard.images)
        dataset = dataset.shard(shard.stride, shard.index) if shard.stride > 1 else dataset
        dataset = dataset.enumerate(first).map(augmented, num_parallel_calls=parallelism.threads)
        dataset = dataset.padded_batch(layout.per_replica_batch_size, drop_remainder=True)
        dataset = configured(dataset, parallelism.deterministic).prefetch(2)
        # the strategy prefetches for several replicas, so the time would mean nothing; and no time is repeatable
        return dataset if parallelism.deterministic or layout.replicas > 1 else _timed(dataset)

    return input_fn


def _augmentation(config: Config, layout: RunLayout, seed: int) -> Callable:
    """Return the function from this worker's n-th example to its element; workers draw different random numbers."""
    network = config.network

    def augmented(index: tf.Tensor, example: dict[str, tf.Tensor]) -> tuple[dict, dict]:
        image, boxes, kept = preprocess_for_train(
            example["image_encoded"],
            example["boxes_yxyx"],
            tf.stack([tf.constant(seed, tf.int64), index * layout.workers + layout.worker]),
            network.image_size,
            network.channel_means_rgb,
            config.augment,
        )
        return element(image, example, boxes, tf.boolean_mask(example["labels"], kept))

    return augmented


def _examples(dataset: tf.data.Dataset, config: Config, skip_empty_images: bool, threads: int = 2) -> tf.data.Dataset:
    """Parse records to examples with their usable objects; `skip_empty_images` leaves out those without any."""
    dataset = dataset.map(
        lambda record: learnable(parse(record, len(config.class_names)), config.targets.use_difficult),
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
