"""Pictures, and records of them."""

import contextlib
import io
import math
from typing import Any, ClassVar

import tensorflow.compat.v1 as tf

from dataset.records.parsing import read_examples
from dataset.sources import odapi, pictures
from tests.builders.records import CAT, DIFFICULT, DOG, record
from tests.builders.voc import picture
from tests.fuzz.damage import damaged
from tests.fuzz.kind import Kind
from utility.files.tfrecord import frame


class Pictures(Kind):
    """What the converter takes, training must be able to decode, to the same size."""

    name = "picture.jpg"
    _formats = ("JPEG", "JPEG", "JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
    _decode: ClassVar[Any]

    @classmethod
    def content(cls, rng):
        buffer = io.BytesIO()
        options = {"progressive": True} if rng.random() < 0.3 else {}
        picture((60, 40), seed=rng.randrange(5)).save(buffer, rng.choice(cls._formats), **options)
        return damaged(rng, buffer.getvalue())

    @classmethod
    @contextlib.contextmanager
    def opened(cls):
        with tf.Graph().as_default(), tf.Session() as session:
            encoded = tf.placeholder(tf.string, [])
            cls._decode = session.make_callable(tf.io.decode_jpeg(encoded, channels=3), [encoded])
            yield

    @classmethod
    def read(cls, path):
        found = pictures.read_picture(path, (40, 60))
        assert cls._decode(found.encoded).shape == (found.height, found.width, 3)


class ObjectDetectionApi(Kind):
    """Records of TensorFlow's Object Detection API, which are read without it."""

    name = "train.tfrecord"

    @classmethod
    def content(cls, rng):
        example = tf.train.Example.FromString(record(1, (CAT, DOG)))
        features = example.features.feature
        features["image/object/class/label"].CopyFrom(features["image/object/bbox/label"])
        features["image/object/class/text"].bytes_list.value.extend([b"cat", b"dog"])
        for own in ("label", "label_text"):
            del features[f"image/object/bbox/{own}"]
        return frame(damaged(rng, example.SerializeToString()))

    @classmethod
    def read(cls, path):
        values = {"dataset_directory": str(path.parent), "labels_file": None}
        data = odapi.read_data_set(values, skip_bad_images=False)
        for source in data.splits["train"].sources:
            assert all(math.isfinite(side) for each in source.annotation.objects for side in each.box_yxyx_px)


class Records(Kind):
    """A damaged file is read to its end, or a record of it is named."""

    name = "train-00000-of-00001"

    @classmethod
    def content(cls, rng):
        made = [record(number, objects) for number, objects in enumerate([(CAT,), (), (DOG, CAT), (DIFFICULT,)])]
        return damaged(rng, b"".join(map(frame, made)))

    @classmethod
    def read(cls, path):
        assert len([*read_examples([str(path)], 20)]) <= 4
