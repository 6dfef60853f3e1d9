"""Finds pictures in records that training or evaluation cannot decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tensorflow.compat.v1 as tf

from dataset.records import tfrecord
from preprocessing.ssd_preprocessing import decode

_JPEG = b"\xff\xd8\xff"
_EIGHTH = 8  # an eighth of the size takes half the time, and still reads every byte
_MOST_BYTES = 2**29  # of RGB, that TensorFlow decodes (tensorflow/core/lib/jpeg/jpeg_mem.cc)


def look(jpeg_only: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function of an image's file, string [], that is an InvalidArgumentError if it cannot be decoded.

    Otherwise it returns True. What training or evaluation refuses, it refuses too; `jpeg_only` is for training, which
    decodes a part of a picture and takes JPEGs alone.
    """
    if jpeg_only:
        return _jpeg_decodes
    return lambda encoded: tf.cond(
        tf.io.is_jpeg(encoded), lambda: _jpeg_decodes(encoded), lambda: _is_there(decode(encoded))
    )


def _jpeg_decodes(encoded: tf.Tensor) -> tf.Tensor:
    shape = tf.cast(tf.image.extract_jpeg_shape(encoded), tf.int64)
    fits = tf.debugging.Assert(shape[0] * shape[1] * 3 < _MOST_BYTES, ["a picture is too large"])
    with tf.control_dependencies([fits]):
        return _is_there(tf.io.decode_jpeg(encoded, channels=3, ratio=_EIGHTH))


def _is_there(pixels: tf.Tensor) -> tf.Tensor:
    """Return True in a way that TensorFlow cannot find out without the pixels, uint8; it could leave them out."""
    return tf.reduce_max(tf.cast(pixels, tf.int32)) >= 0


@contextmanager
def fault_of_picture(jpeg_only: bool) -> Iterator[Callable[[bytes], str]]:
    """Yield a function that returns what is wrong with the picture of a serialized record, "" for nothing."""
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
        given = tf.placeholder(tf.string, [])
        decoded = look(jpeg_only)(given)

        def fault(serialized: bytes) -> str:
            (encoded,) = tfrecord.decode_example(serialized)["image/encoded"][1]
            try:
                session.run(decoded, {given: encoded})
            except tf.errors.InvalidArgumentError:
                other = jpeg_only and not encoded.startswith(_JPEG)
                return "its picture is no JPEG, which training needs" if other else "its picture cannot be decoded"
            return ""

        yield fault
