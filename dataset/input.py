"""The input function of training: an endless stream of augmented batches that starts at any global step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.records import parsing
from dataset.records.parsing import faults_named, image_counter, parse, quiet, without_faults
from dataset.records.record_files import count_by_file, image_counts_in_info
from dataset.sources.annotations import Annotation, LabelledObject
from preprocessing import box_ops
from preprocessing.ssd_preprocessing import decode, preprocess_for_eval, preprocess_for_train
from preprocessing.views import MOST_CUT, tile_windows
from utility.config.settings import Config, ViewConfig
from utility.errors import UserError
from utility.run.layout import RunLayout

# Counts and checks of TFRecords, their ground truth, and steps that all input functions share.

_CHECKED_PER_FILE = 64  # records of a file that are looked at before training starts

InputFn = Callable[[], tf.data.Dataset]

# For functions of TensorFlow operations only: AutoGraph would take seconds to rewrite them, without effect.
without_autograph = tf.autograph.experimental.do_not_convert


def learnable(example: dict[str, tf.Tensor], use_difficult: bool) -> dict[str, tf.Tensor]:
    """Remove difficult objects from an example's boxes and labels, unless `use_difficult`."""
    keep = tf.logical_or(tf.logical_not(example["difficult"]), use_difficult)
    return {**example, **{key: tf.boolean_mask(example[key], keep) for key in ("boxes_yxyx", "labels")}}


@without_autograph
def examples_of(make_dataset: InputFn) -> list[dict[str, Any]]:
    """Return a data set's examples as numpy values, without the pictures; no GPU is used."""
    elements, without_gpu = [], tf.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default(), tf.Session(config=without_gpu) as session:
        example = tf.data.make_one_shot_iterator(make_dataset()).get_next()
        del example["image_encoded"]
        with contextlib.suppress(tf.errors.OutOfRangeError), quiet():
            while True:
                elements.append(session.run(example))
    return elements


def element(image: tf.Tensor, example: dict[str, tf.Tensor], boxes: tf.Tensor, labels: tf.Tensor):
    """Return (features, labels) of one image, before batching."""
    return {"image": image, "image_id": example["image_id"]}, {"boxes_yxyx": boxes, "labels": labels}


def configured(dataset: tf.data.Dataset, deterministic: bool) -> tf.data.Dataset:
    """Make a data set keep its order, or let it yield elements as soon as they are ready."""
    options = tf.data.Options()
    options.deterministic = deterministic
    return dataset.with_options(options)


def ground_truth_of(shards: list[str], class_names: Sequence[str]) -> list[Annotation]:
    """Read the objects of records back as annotations; no picture is decoded.

    Boxes are the annotation's raw pixels, rounded to a thousandth. A UserError names a broken record, also one with a
    label without a name in `class_names`.
    """
    names = len(class_names)
    with faults_named(shards, names):
        records = lambda: tf.data.TFRecordDataset(shards)  # noqa: E731
        examples = examples_of(lambda: records().map(lambda record: parse(record, names), num_parallel_calls=2))
    return [_annotation(example, class_names) for example in examples]


def _annotation(example: dict[str, Any], class_names: Sequence[str]) -> Annotation:
    image_id, height, width = example["image_id"].decode(), int(example["height"]), int(example["width"])
    # float32 fractions of the image are exact to about a thousandth of a pixel
    boxes = np.round(example["boxes_yxyx"].astype(np.float64) * [height, width, height, width], 3)
    objects = zip(boxes.tolist(), example["labels"].tolist(), example["difficult"].tolist(), strict=True)
    return Annotation(
        image_id,
        Path(image_id),
        height,
        width,
        tuple(
            LabelledObject(class_names[label - 1], tuple(box), difficult, False) for box, label, difficult in objects
        ),
    )


def first_examples(shards: list[str], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the examples of the first records of each file as numpy values, without the pictures.

    They are enough to recognise another data set's labels.txt; reading all records could take minutes.

    Raises:
        UserError: one of them is broken or has a label without a name.
    """
    names = len(class_names)

    def firsts() -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices(shards)
        records = files.flat_map(lambda shard: tf.data.TFRecordDataset(shard).take(_CHECKED_PER_FILE))
        return records.map(lambda record: parse(record, names), num_parallel_calls=2)

    with faults_named(shards, names):
        return examples_of(firsts)


# The input functions of evaluation and demo: every image once, in order, without augmentation.

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
        """Return a context in which a broken record that TensorFlow stumbles over is a UserError that names it."""
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
        UserError: as `count_by_file` and `first_examples`; or no image is left, so the first batch would never come.
    """
    if skip_bad_records:
        shards = without_faults(shards, len(config.class_names), jpeg_only=True)
    counts = count_by_file(shards)
    examples = first_examples(shards, config.class_names)
    if skip_empty_images:
        counts = _count_with_objects(counts, config)
        if not any(counts.values()):
            raise UserError(
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
        raise UserError(f"the layout has batches of {layout.batch_size} images, not {config.schedule.batch_size}")
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
