"""The input function of training: an endless stream of augmented batches whose place follows from the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dataset import records
from dataset.dataset_common import (
    InputFn,
    as_it_stands,
    configured,
    count_records,
    element,
    examples_of,
    learnable,
    records_in,
)
from preprocessing.ssd_preprocessing import preprocess_for_train
from utility.config import BACKBONES, Config

SHUFFLE_BUFFER = 1024  # encoded records; about 100 MB of VOC
_MIXED_SHARDS = 16  # record files that a pass takes records from in turn; fixed, for the order depends on it


class Share(NamedTuple):
    """What this process has of each batch."""

    devices: int = 1  # of all workers; each gets elements of batch_size / devices images
    parts: int = 1  # in which a device computes its images, of the same size
    worker: int = 0  # this one of the workers
    workers: int = 1  # machines that train together


def training_input_fn(
    shards: list[str],
    config: Config,
    seed: int,
    readers: int = 8,
    threads: int = 24,
    deterministic: bool = False,
    skip_empty_images: bool = False,
    images: int | None = None,
    first_step: Callable[[], int] = lambda: 0,
    share: Share = Share(),  # noqa: B008 (it cannot be changed)
) -> InputFn:
    """Return the input function of training: endless, shuffled, augmented batches.

    Where the stream starts follows from the global step alone, so a run that goes on gets the batches that an
    undisturbed one gets: exactly these if `deterministic`, else these up to their order.

    Each element is (features, labels): `image` float32 [B, H, W, 3], `image_id` string [B]; `boxes_yxyx`
    float32 [B, N, 4] in [0, 1] of the input and `labels` int64 [B, N], padded with label 0 to the most
    objects of the batch. On one device, unless `deterministic`, features also hold `waited`, float64 [], the
    seconds that the step had to wait for this element.

    Args:
      shards: record files.
      config: the configuration; schedule.batch_size is B, on several devices that times their number.
      seed: of the order and of the augmentation; the n-th image of the stream has the seed (seed, n).
      readers: record files read at once.
      threads: images preprocessed at once.
      deterministic: the same seed gives the same batches; else the order may vary for speed.
      skip_empty_images: leave out images without objects to learn from.
      images: of an epoch, as `count_images` gives it; None: they are counted here.
      first_step: gives the global step to go on from, whenever the stream is started.
      share: what this process has of each batch. A worker has files of its own if they can be dealt out evenly;
        else all workers go through all files in the same order, and each takes its turn.

    Raises:
      ValueError: the batch cannot be shared so, or there is no image to learn from.
    """
    batch_size, network = config.schedule.batch_size, config.network
    _check_batch_size(batch_size, share, BACKBONES[network.backbone].batch_norm)
    epoch, every = images or count_images(shards, config, skip_empty_images), share.workers
    hands = [shards[worker :: share.workers] for worker in range(share.workers)]
    counts = [_count(hand, config, skip_empty_images) for hand in hands] if share.workers > 1 else [epoch]
    # the converter fills files evenly, to one record; else an image in a small hand would come more often
    if all(counts) and max(counts) <= min(counts) + len(shards) and len(shards) % share.workers == 0:
        shards, epoch, every = hands[share.worker], counts[share.worker], 1

    def augmented(index: tf.Tensor, example: dict[str, tf.Tensor]):
        image, boxes, kept = preprocess_for_train(
            example["image_encoded"],
            example["boxes_yxyx"],
            tf.stack([tf.constant(seed, tf.int64), index * share.workers + share.worker]),
            network.image_size,
            network.channel_means_rgb,
            config.augment,
        )
        return element(image, example, boxes, tf.boolean_mask(example["labels"], kept))

    @as_it_stands
    def input_fn() -> tf.data.Dataset:
        own = first_step() * batch_size // share.workers  # the number of the first image, among this worker's
        start = own * every  # and in the stream that it takes part of
        dataset = _shuffled_records(shards, seed, start // epoch, readers)
        dataset = _parsed(dataset, config, skip_empty_images, threads).skip(start % epoch)
        dataset = dataset.shard(every, share.worker) if every > 1 else dataset
        dataset = dataset.enumerate(own).map(augmented, num_parallel_calls=threads)
        dataset = dataset.padded_batch(batch_size // share.devices, drop_remainder=True)
        dataset = configured(dataset, deterministic).prefetch(2)
        # several devices are fed ahead, by threads; and TensorFlow has no clock where all is to be repeatable
        return dataset if deterministic or share.devices > 1 else _timed(dataset)

    return input_fn


def count_images(shards: list[str], config: Config, skip_empty_images: bool = False) -> int:
    """Return the images of an epoch; ValueError when there is none, for an endless stream of nothing never comes.

    Leaving out images without objects to learn from takes a look into all the records.
    """
    count = count_records(shards)
    if not skip_empty_images:
        return count
    count = _count(shards, config, skip_empty_images)
    if not count:
        raise ValueError(
            f"--skip_empty_images leaves none of the images in {shards[0]}, ...: none has an object to learn from;"
            " leave the flag out or check the annotations"
        )
    return count


def _count(shards: list[str], config: Config, skip_empty_images: bool) -> int:
    if not skip_empty_images:
        return sum(map(records_in, shards))
    return len(examples_of(lambda: _parsed(tf.data.TFRecordDataset(shards), config, skip_empty_images)))


def _check_batch_size(batch_size: int, share: Share, batch_norm: bool) -> None:
    pieces = share.devices * share.parts
    devices = f"{share.devices} devices of {share.workers} workers" if share.workers > 1 else f"{share.devices} GPUs"
    factors = [devices] if share.devices > 1 else []
    factors += [f"--accumulate_steps={share.parts}"] if share.parts > 1 else []
    if batch_size % pieces:
        raise ValueError(
            f"--batch_size={batch_size}: must be a multiple of the {' times '.join(factors)}: {pieces}"
            f"{'; --nomulti_gpu takes one GPU of a machine' if share.devices > 1 else ''}"
        )
    if batch_norm and batch_size < 2 * pieces:  # less its own mean, a 1x1 map of one image is 0
        shared = f", shared by the {' times '.join(factors)}," if factors else ""
        raise ValueError(
            f"--batch_size={batch_size}{shared} gives batch norm one image at a time: take {2 * pieces} or more"
        )


def _parsed(dataset: tf.data.Dataset, config: Config, skip_empty_images: bool, threads: int = 2) -> tf.data.Dataset:
    """Read records as examples with the objects to learn from, those without one left out when asked for."""
    dataset = dataset.map(
        lambda record: learnable(records.parse(record), config.targets.use_difficult),
        num_parallel_calls=threads,
        deterministic=True,
    )
    return dataset.filter(lambda example: tf.size(example["labels"]) > 0) if skip_empty_images else dataset


def _timed(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Add to the features how long it took from asking for an element to having it.

    Both data sets of the pair are asked in turn, by the one who waits: the clock, and then the element.
    """
    clock = tf.data.Dataset.range(np.iinfo(np.int64).max).map(lambda _: tf.timestamp())

    def stamped(asked: tf.Tensor, element: tuple[dict, dict]):
        features, labels = element
        with tf.control_dependencies(tf.nest.flatten(element)):
            return {**features, "waited": tf.timestamp() - asked}, labels

    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # a buffer behind the clock would stop it
    return tf.data.Dataset.zip((clock, dataset)).map(stamped).with_options(options)


def _shuffled_records(shards: list[str], seed: int, first_pass: int, readers: int) -> tf.data.Dataset:
    """Read all shards again and again, each pass in another order that follows from the seed and its number."""

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices(shards).shuffle(len(shards), seed=seed + number)
        dataset = files.interleave(
            tf.data.TFRecordDataset,
            cycle_length=_MIXED_SHARDS,
            num_parallel_calls=min(readers, _MIXED_SHARDS),
            deterministic=True,  # always, since a run that goes on counts on it; the decoding takes far longer
        )
        return dataset.shuffle(SHUFFLE_BUFFER, seed=seed + number)

    return tf.data.Dataset.range(first_pass, np.iinfo(np.int64).max).flat_map(one_pass)
