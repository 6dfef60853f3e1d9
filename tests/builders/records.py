"""Record files that tests make, and what input functions give of them."""

import io
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.input import Parallelism, training_input_fn, training_records
from dataset.records import record_files
from dataset.records.schema import RecordObject, serialize
from tests.builders.configs import voc_config
from tests.builders.voc import picture
from utility.config.settings import NO_AUGMENTATION
from utility.files.tfrecord import frame
from utility.run.layout import RunLayout

SIDE = (32, 32)
CAT = ((0.25, 0.25, 0.75, 0.75), 8, False)
DOG = ((0.1, 0.2, 0.6, 0.9), 12, False)
DIFFICULT = ((0.5, 0.5, 1.0, 1.0), 15, True)
DETERMINISTIC = Parallelism(deterministic=True)


def config(batch_size=4, **values):
    return voc_config(network__image_size=SIDE, schedule__batch_size=batch_size, **values)


def encoded(number, kind="JPEG"):
    buffer = io.BytesIO()
    picture((48, 40), seed=number).save(buffer, kind)
    return buffer.getvalue()


def record(number, objects=(CAT,), kind="JPEG"):
    found = [RecordObject(box, label, "", difficult, False) for box, label, difficult in objects]
    return serialize(encoded(number, kind), f"{number:03d}.jpg", 40, 48, found)


def write_shards(folder, serialized, shards, prefix="train"):
    """Write records to shards, the first ones into the first shard; returns the paths as text."""
    paths = record_files.shard_paths(folder, prefix, shards)
    for path, part in zip(paths, np.array_split(np.arange(len(serialized)), shards), strict=True):
        path.write_bytes(b"".join(frame(serialized[number]) for number in part))
    return [str(path) for path in paths]


def twenty_images(folder):
    """Write 20 images with a cat each to 5 shards."""
    return write_shards(folder, [record(number) for number in range(20)], 5)


def mixed_images(folder):
    """Write five images to 2 shards: no object, a cat, all three, only a difficult one, and a dog."""
    contents = [(), (CAT,), (DOG, DIFFICULT, CAT), (DIFFICULT,), (DOG,)]
    return write_shards(folder, [record(number, objects) for number, objects in enumerate(contents)], 2)


def elements(input_fn, count=None, graph_seed=20180503):
    """The first elements of an input function (None: all), run in a graph as the Estimator does."""
    found: list[Any] = []
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(graph_seed)
        element = tf.data.make_one_shot_iterator(input_fn()).get_next()
        while count is None or len(found) < count:
            try:
                found.append(session.run(element))
            except tf.errors.OutOfRangeError:
                break
    for features, _ in (batch for batch in found if isinstance(batch, tuple)):
        features.pop("host_wait", None)
    return found


def ids_of(batches):
    """The image ids of features, or of features with labels."""
    every = (batch[0] if isinstance(batch, tuple) else batch for batch in batches)
    return [image_id.decode() for features in every for image_id in features["image_id"]]


def images_of(batches):
    pairs = (zip(features["image_id"], features["image"], strict=True) for features, _ in batches)
    return {image_id: image for pair in pairs for image_id, image in pair}


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, batch, other)


def train_input(shards, config, seed=7, first_step=0, parallelism=DETERMINISTIC, task=None, skip_empty_images=False):
    """The input function of training on record files, for the worker that has the task."""
    records = training_records(shards, config, skip_empty_images)
    layout = RunLayout(config.schedule.batch_size, task=task)
    return training_input_fn(records, config, layout, seed, lambda: first_step, parallelism)


def one_epoch(shards, images, skip_empty_images=False, **settings):
    """An epoch without augmentation, as {image_id: (boxes, labels)}; one batch."""
    setting = config(batch_size=images, augment=NO_AUGMENTATION, **settings)
    ((features, truth),) = elements(train_input(shards, setting, skip_empty_images=skip_empty_images), 1)
    rows = zip(features["image_id"], truth["boxes_yxyx"], truth["labels"], strict=True)
    return {image_id.decode(): (boxes, found) for image_id, boxes, found in rows}
