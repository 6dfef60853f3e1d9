"""Input functions of the Estimator: from TFRecords to batches of network inputs with padded ground truth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from dataset import labels, records
from dataset.voc import VocAnnotation, VocObject
from preprocessing.ssd_preprocessing import decode, preprocess_for_eval, preprocess_for_train
from utility.config import LABELS_FILE, Config

SHUFFLE_BUFFER = 1024  # encoded records; about 100 MB of VOC
_MIXED_SHARDS = 16  # record files that a pass takes records from in turn; fixed, for the order depends on it

InputFn = Callable[[], tf.data.Dataset]


def training_input_fn(
    shards: list[str],
    config: Config,
    seed: int,
    readers: int = 8,
    threads: int = 24,
    deterministic: bool = False,
    skip_empty_images: bool = False,
    replicas: int = 1,
    parts: int = 1,
    worker: int = 0,
    workers: int = 1,
) -> InputFn:
    """Return the input function of training: endless, shuffled, augmented batches.

    Each element is (features, labels): `image` float32 [B, H, W, 3], `image_id` string [B]; `boxes_yxyx`
    float32 [B, N, 4] in [0, 1] of the input and `labels` int64 [B, N], padded with label 0 to the most
    objects of the batch.

    Args:
      shards: record files.
      config: the configuration; schedule.batch_size is B.
      seed: of the order and of the augmentation; the n-th image of the stream has the seed (seed, n).
      readers: record files read at once.
      threads: images preprocessed at once.
      deterministic: the same seed gives the same batches; else the order may vary for speed.
      replicas: devices of all workers that share a batch; each gets elements of B / replicas images.
      parts: in which a device computes its images, of the same size.
      worker: which of the `workers` reads: each has files of its own if they can be dealt out evenly, else it
        takes every `workers`-th record of the order that all of them read in.
      workers: machines that share a batch.
      skip_empty_images: leave out images without objects to learn from; ValueError when that is all of them.
    """
    _check_batch_size(config.schedule.batch_size, replicas, parts, workers)
    dealt = len(shards) % workers == 0
    shards = shards[worker::workers] if dealt else shards
    network, augment = config.network, config.augment

    def parsed(dataset: tf.data.Dataset) -> tf.data.Dataset:
        dataset = dataset.map(
            lambda record: _learnable(records.parse(record), config.targets.use_difficult),
            num_parallel_calls=threads,
        )
        return dataset.filter(lambda example: tf.size(example["labels"]) > 0) if skip_empty_images else dataset

    def augmented(index: tf.Tensor, example: dict[str, tf.Tensor]):
        image, boxes, kept = preprocess_for_train(
            example["image_encoded"],
            example["boxes_yxyx"],
            tf.stack([tf.constant(seed, tf.int64), index * workers + worker]),
            network.image_size,
            network.channel_means_rgb,
            augment,
        )
        return _element(image, example, boxes, tf.boolean_mask(example["labels"], kept))

    def input_fn() -> tf.data.Dataset:
        dataset = parsed(_shuffled_records(shards, seed, readers, deterministic or not dealt))
        dataset = dataset if dealt else dataset.shard(workers, worker)
        dataset = dataset.enumerate().map(augmented, num_parallel_calls=threads)
        dataset = dataset.padded_batch(config.schedule.batch_size // replicas, drop_remainder=True)
        return _configured(dataset, deterministic).prefetch(2)

    # an endless stream of nothing would wait for ever
    if skip_empty_images and not _elements(lambda: parsed(tf.data.TFRecordDataset(shards)).take(1)):
        raise ValueError(
            f"--skip_empty_images leaves none of the images in {shards[0]}, ...: none has an object to learn from;"
            " leave the flag out or check the annotations"
        )
    return input_fn


def _check_batch_size(batch_size: int, replicas: int, parts: int, workers: int) -> None:
    if batch_size % (replicas * parts) == 0:
        return
    shared = f"{replicas} {f'devices of {workers} workers' if workers > 1 else 'GPUs'}" if replicas > 1 else ""
    factors = [part for part in (shared, f"--accumulate_steps={parts}" if parts > 1 else "") if part]
    raise ValueError(
        f"--batch_size={batch_size}: must be a multiple of the {' times '.join(factors)}: {replicas * parts}"
        f"{'; --nomulti_gpu takes one GPU of a machine' if shared else ''}"
    )


def _learnable(example: dict[str, tf.Tensor], use_difficult: bool) -> dict[str, tf.Tensor]:
    """Leave objects marked difficult out of an example, unless they are to be used."""
    use = tf.logical_or(tf.logical_not(example["difficult"]), use_difficult)
    return {**example, **{key: tf.boolean_mask(example[key], use) for key in ("boxes_yxyx", "labels")}}


def _elements(make_dataset: InputFn) -> list[dict[str, Any]]:
    """Return a data set's examples as numpy values, without the pictures, by a session that leaves GPUs alone."""
    elements, without_gpu = [], tf.ConfigProto(device_count={"GPU": 0})
    with tf.Graph().as_default(), tf.Session(config=without_gpu) as session:
        example = tf.data.make_one_shot_iterator(make_dataset()).get_next()
        del example["image_encoded"]
        with contextlib.suppress(tf.errors.OutOfRangeError):
            while True:
                elements.append(session.run(example))
    return elements


def _shuffled_records(shards: list[str], seed: int, readers: int, deterministic: bool) -> tf.data.Dataset:
    """Read all shards again and again, each pass in another order that follows from the seed and its number."""

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices(shards).shuffle(len(shards), seed=seed + number)
        dataset = files.interleave(
            tf.data.TFRecordDataset,
            cycle_length=_MIXED_SHARDS,
            num_parallel_calls=min(readers, _MIXED_SHARDS),
            deterministic=deterministic,
        )
        return dataset.shuffle(SHUFFLE_BUFFER, seed=seed + number)

    return tf.data.Dataset.range(np.iinfo(np.int64).max).flat_map(one_pass)


def eval_input_fn(shards: list[str], config: Config, batch_size: int, threads: int = 24) -> InputFn:
    """Return the input function of evaluation: every image once, in the records' order, the last batch smaller.

    Elements are those of `training_input_fn` without augmentation, and features also hold `size` int32 [B, 2],
    height and width of the image in pixels. Difficult objects are left out of the labels.
    """

    def prepared(record: tf.Tensor):
        example = records.parse(record)
        image = preprocess_for_eval(
            decode(example["image_encoded"]), config.network.image_size, config.network.channel_means_rgb
        )
        learnable = _learnable(example, use_difficult=False)
        features, labels = _element(image, example, learnable["boxes_yxyx"], learnable["labels"])
        return {**features, "size": tf.stack([example["height"], example["width"]])}, labels

    def input_fn() -> tf.data.Dataset:
        # one file after the other: reading several at once would mix their records
        dataset = tf.data.TFRecordDataset(shards)
        dataset = dataset.map(prepared, num_parallel_calls=threads)
        return _configured(dataset.padded_batch(batch_size), deterministic=True).prefetch(2)

    return input_fn


def pictures_input_fn(pictures: Callable[[], Iterable[tuple[str, np.ndarray]]], config: Config) -> InputFn:
    """Return an input function over pictures at hand, one at a time, in order.

    `pictures()` gives (name, RGB uint8 [h, w, 3]). Features are those of `eval_input_fn`, the name as `image_id`.
    """

    def prepared(name: tf.Tensor, image: tf.Tensor) -> dict[str, tf.Tensor]:
        network = config.network
        return {
            "image": preprocess_for_eval(image, network.image_size, network.channel_means_rgb),
            "image_id": name,
            "size": tf.shape(image)[:2],
        }

    def input_fn() -> tf.data.Dataset:
        dataset = tf.data.Dataset.from_generator(pictures, (tf.string, tf.uint8), ([], [None, None, 3]))
        return dataset.map(prepared).batch(1).prefetch(1)

    return input_fn


def _element(image: tf.Tensor, example: dict[str, tf.Tensor], boxes: tf.Tensor, labels: tf.Tensor):
    return {"image": image, "image_id": example["image_id"]}, {"boxes_yxyx": boxes, "labels": labels}


def _configured(dataset: tf.data.Dataset, deterministic: bool) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = deterministic
    return dataset.with_options(options)


def ground_truth_of(shards: list[str], class_names: Sequence[str]) -> list[VocAnnotation]:
    """Read the objects of records back as annotations; no picture is decoded.

    Boxes are in VOC's 1-based inclusive pixels again, exactly where those are whole numbers. ValueError when a
    label has no name in `class_names`.
    """
    examples = _elements(lambda: tf.data.TFRecordDataset(shards).map(records.parse, num_parallel_calls=2))
    return [_annotation(example, class_names) for example in examples]


def _annotation(example: dict[str, Any], class_names: Sequence[str]) -> VocAnnotation:
    image_id, height, width = example["image_id"].decode(), int(example["height"]), int(example["width"])
    if example["labels"].size and not 1 <= example["labels"].min() <= example["labels"].max() <= len(class_names):
        raise ValueError(
            f"the record of image {image_id} has class ids {sorted(set(example['labels'].tolist()))}, but there"
            f" are {len(class_names)} class names: the records and labels.txt are of different data sets"
        )
    # float32 parts of the image give back pixels to a thousandth
    boxes = np.round(example["boxes_yxyx"].astype(np.float64) * [height, width, height, width], 3)
    objects = zip(boxes.tolist(), example["labels"].tolist(), example["difficult"].tolist(), strict=True)
    return VocAnnotation(
        image_id,
        Path(image_id),
        height,
        width,
        tuple(VocObject(class_names[label - 1], tuple(box), difficult, False) for box, label, difficult in objects),
    )


def count_records(shards: list[str]) -> int:
    """Return how many records the shards hold; ValueError when there is none or when a file is cut off.

    Reads only the lengths that stand before each record, so it takes a fraction of a second.
    """
    total = sum(_records_of(shard) for shard in shards)
    if not total:
        raise ValueError(f"the record files {shards[0]}, ... hold no record: convert the data set again")
    return total


def _records_of(shard: str) -> int:
    """Walk over TFRecord's frames: uint64 length, uint32 checksum, the record, uint32 checksum."""
    size, place, count = Path(shard).stat().st_size, 0, 0
    with Path(shard).open("rb") as file:
        while place < size:
            file.seek(place)
            place += 16 + int.from_bytes(file.read(8), "little")
            count += 1
    if place != size:
        raise ValueError(f"the record file {shard} is cut off or no TFRecord: copy or convert it again")
    return count


def class_names(data_dir: str, num_classes: int | None) -> tuple[str, ...]:
    """Return the class names of a converted data set, background left out.

    Records of the reference have no labels.txt; theirs are the classes of VOC. ValueError when the given
    `num_classes` (background included) is another number.
    """
    path = Path(data_dir) / LABELS_FILE
    names = labels.read_labels(path) if path.is_file() else labels.VOC_CLASSES
    source = str(path) if path.is_file() else f"there is no {path}, so the classes are VOC's; it"
    if num_classes is not None and num_classes != len(names) + 1:
        raise ValueError(
            f"--num_classes={num_classes}: {source} has {len(names)} names, which makes {len(names) + 1} classes"
            " with background; leave the flag out"
        )
    return names
