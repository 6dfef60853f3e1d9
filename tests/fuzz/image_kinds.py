"""Pictures, and records of them."""

import contextlib
import io
from typing import Any, ClassVar

import tensorflow.compat.v1 as tf

from dataset.records import parsing, record_files, schema
from dataset.records.schema import frame
from dataset.sources import pictures
from tests.builders.records import CAT, DIFFICULT, DOG, record
from tests.builders.voc import picture
from tests.fuzz.damage import damaged
from tests.fuzz.kind import Kind
from utility.run.log import first_line


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


class Records(Kind):
    """TensorFlow must read a file in which no fault is found, and no other."""

    name = "train-00000-of-00001"
    _count: ClassVar[Any]

    @classmethod
    def content(cls, rng):
        made = [record(number, objects) for number, objects in enumerate([(CAT,), (), (DOG, CAT), (DIFFICULT,)])]
        if rng.random() < 0.5:  # a record that is damaged, in a frame that is not
            place = rng.randrange(len(made))
            made[place] = damaged(rng, made[place])
            return b"".join(map(frame, made))
        return damaged(rng, b"".join(map(frame, made)))

    @classmethod
    @contextlib.contextmanager
    def opened(cls):
        with parsing.image_counter(20) as cls._count:
            yield

    @classmethod
    def read(cls, path):
        record_files.records_in(str(path))
        found = next(schema.faults_in(str(path), 20), None)
        try:
            cls._count([str(path)])
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            assert found, f"no fault is found, but TensorFlow says {first_line(error)}"
            raise OSError(str(found)) from error
        assert not found, f"TensorFlow reads it, but {found}"
