"""Parses a record with TensorFlow operations: the inverse of schema.py."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.records import schema
from dataset.records.record_files import records_in
from dataset.records.schema import BOX, LISTS, SCALARS, SIDES, Fault
from preprocessing.ssd_preprocessing import decode
from utility.errors import UserError
from utility.run.log import log
from utility.startup.start import filtered_stderr

# Finds pictures in records that training or evaluation cannot decode.

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
            (encoded,) = schema.decode_example(serialized)["image/encoded"][1]
            try:
                session.run(decoded, {given: encoded})
            except tf.errors.InvalidArgumentError:
                other = jpeg_only and not encoded.startswith(_JPEG)
                return "its picture is no JPEG, which training needs" if other else "its picture cannot be decoded"
            return ""

        yield fault


# Reads whole record files with TensorFlow: counts their images, and finds broken records or leaves them out.

# what TensorFlow raises at a broken record; the last where its message quotes the record, as bytes that are no text
_FAULTS = (tf.errors.DataLossError, tf.errors.InvalidArgumentError, UnicodeDecodeError)


class ImageCounts(NamedTuple):
    """Numbers of images: all, those with an object, and those with an object that is not difficult."""

    images: int
    with_objects: int
    with_objects_not_difficult: int


@contextmanager
def image_counter(
    num_classes: int | None,
    read: Callable[[tf.Tensor], tf.data.Dataset] = tf.data.TFRecordDataset,
    look: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> Iterator[Callable[[Sequence[str]], ImageCounts]]:
    """Yield a function that counts the images in record files; it checks all records that `read` gives of the files.

    `look` checks pictures, as in `checked_batches`. A broken record is one of TensorFlow's errors.
    """
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
        shards = tf.placeholder(tf.string, [None])
        batches = checked_batches(read(shards), num_classes, look)
        counts = batches.reduce(np.zeros(3, np.int64), _add)

        def count(paths: Sequence[str]) -> ImageCounts:
            with quiet():
                return ImageCounts(*session.run(counts, {shards: [*paths]}).tolist())

        yield count


def quiet() -> AbstractContextManager[None]:
    """Return a context without TensorFlow's lines on the way of an error through its parts, which say nothing more."""
    return filtered_stderr(("rendezvous is aborting with status",))


@tf.autograph.experimental.do_not_convert
def _add(total: tf.Tensor, batch: dict[str, tf.Tensor]) -> tf.Tensor:
    some = [
        tf.ones_like(batch["objects"], tf.bool),
        batch["objects"] > 0,
        tf.reduce_any(tf.logical_not(batch["difficult"]), axis=1),
    ]
    return total + tf.reduce_sum(tf.cast(tf.stack(some), tf.int64), axis=1)


@contextmanager
def faults_named(shards: Sequence[str], num_classes: int | None = None, jpeg_only: bool = False) -> Iterator[None]:
    """Turn an error of TensorFlow that comes of a broken record in these files into a UserError that names it.

    The files are searched for the first one, and for a picture that cannot be decoded; `jpeg_only`, for training, means
    also one that is no JPEG. If there is none, the error stays what it is.
    """
    try:
        yield
    except _FAULTS as error:
        fault = _first_fault(shards, num_classes)
        if fault is None and not isinstance(error, tf.errors.DataLossError):
            fault = _first_bad_picture(shards, num_classes, jpeg_only)
        if fault is None:
            raise
        raise UserError(str(fault)) from error


def _first_fault(shards: Sequence[str], num_classes: int | None) -> Fault | None:
    log(f"looking for the broken record in {len(shards)} record files")
    with image_counter(num_classes) as count:
        broken = (shard for shard in shards if not _can_be_read(shard, count))
        return next((fault for shard in broken for fault in schema.faults_in(shard, num_classes)), None)


def _first_bad_picture(shards: Sequence[str], num_classes: int | None, jpeg_only: bool) -> Fault | None:
    log("all records are whole: looking for one with a picture that cannot be decoded")
    with image_counter(num_classes, look=look(jpeg_only)) as count:
        broken = next((shard for shard in shards if not _can_be_read(shard, count)), None)
    if broken is None:
        return None
    with fault_of_picture(jpeg_only) as of_picture:
        return next(schema.faults_in(broken, num_classes, of_picture), None)


def _can_be_read(shard: str, count: Callable[[Sequence[str]], ImageCounts]) -> bool:
    try:
        records_in(shard)  # TensorFlow takes what is too short for the length of a record for the end of the file
        count([shard])
    except (*_FAULTS, ValueError):
        return False
    return True


def without_faults(shards: Sequence[str], num_classes: int, jpeg_only: bool = False) -> list[str]:
    """Return the record files, those with broken records replaced by copies of their whole records; log what is lost.

    All records are read and all pictures decoded; `jpeg_only`, for training, leaves out those that are no JPEGs. The
    copies are removed when the process ends.
    """
    log(f"--skip_bad_records: reading and decoding all of {len(shards)} record files once")
    with image_counter(num_classes, look=look(jpeg_only)) as count:
        broken = [shard for shard in shards if not _can_be_read(shard, count)]
    if not broken:
        return [*shards]
    folder = Path(tempfile.mkdtemp(prefix="ssd_records_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copies = {shard: folder / Path(shard).name for shard in broken}
    with fault_of_picture(jpeg_only) as of_picture:
        each = (schema.copy_without_faults(shard, copy, num_classes, of_picture) for shard, copy in copies.items())
        found = [fault for of_file in each for fault in of_file]
    if found:
        ends = sum(fault.ends_file for fault in found)
        rest = f" and all that follows in {ends} of the files" if ends else ""
        log(
            f"--skip_bad_records: {len(found)} broken records in {len(broken)} of {len(shards)} record files are left"
            f" out{rest}; the first: {found[0].where()}"
        )
    return [str(copies.get(shard, shard)) for shard in shards]


_DTYPES = {"bytes": tf.string, "float": tf.float32, "int64": tf.int64}
_LENGTHS = "lengths"  # of the lists of a record
_BATCH = 32  # records checked at once; as many as a training pads to the most objects of one
_NAME = r"[^\x00-\x1f\x7f\x{D800}-\x{DFFF}]+"  # of UTF-8; RE2 matches no bytes that are none


def parse(serialized: tf.Tensor, num_classes: int | None = None) -> dict[str, tf.Tensor]:
    """Parse one record, a string scalar, to a dictionary of tensors; the inverse of `serialize`.

    `image_encoded` string []; `image_id` string [], the file name without its last extension; `height` and
    `width` int32 [] in pixels; `boxes_yxyx` float32 [N, 4] in [0, 1]; `labels` int64 [N]; `difficult` bool
    [N]. N is 0 for an image without objects.

    A record in which `faults.fault_of` finds something is an InvalidArgumentError; `scanning.faults_named` names it.
    """
    example = _sound(_features(serialized), num_classes)
    return {
        "image_encoded": example["image/encoded"],
        "image_id": tf.strings.regex_replace(example["image/filename"], r"\.[^.]*$", ""),
        "height": tf.cast(example["image/height"], tf.int32),
        "width": tf.cast(example["image/width"], tf.int32),
        "boxes_yxyx": tf.stack([example[BOX + side] for side in SIDES], axis=-1),
        "labels": example[BOX + "label"],
        "difficult": tf.cast(example[BOX + "difficult"], tf.bool),
    }


def checked_batches(
    records: tf.data.Dataset, num_classes: int | None = None, look: Callable[[tf.Tensor], tf.Tensor] | None = None
) -> tf.data.Dataset:
    """Check serialized records as `parse` does, many at once, which takes a third of the time.

    Batches have `objects` int64 [B], the number of objects, and `difficult` bool [B, N], padded with True. `look` is
    called with each image's file, string []; it returns False or raises an error for one that is not to be taken.
    """

    def features_of(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = _features(serialized)
        looks = [tf.debugging.Assert(look(example["image/encoded"]), ["a picture"])] if look else []
        with tf.control_dependencies(looks):
            # what the check needs of it; whole pictures would be copied into the batch
            example["image/encoded"] = tf.strings.substr(example["image/encoded"], 0, 1)
        return example

    def checked(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = _sound(batch, num_classes)
        return {"objects": batch[_LENGTHS][:, 0], "difficult": tf.cast(batch[BOX + "difficult"], tf.bool)}

    kinds = {**SCALARS, **LISTS, _LENGTHS: "int64"}
    padding = {"bytes": "", "float": 0.0, "int64": tf.constant(1, tf.int64)}  # as of a good record
    features = records.map(tf.autograph.experimental.do_not_convert(features_of), num_parallel_calls=4)
    batches = features.padded_batch(_BATCH, padding_values={name: padding[kind] for name, kind in kinds.items()})
    return batches.map(tf.autograph.experimental.do_not_convert(checked))


def _features(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the features of a serialized Example: scalars, lists [N], and their `lengths` int64 [lists].

    An InvalidArgumentError if it is none.

    An Example reads as a SequenceExample that has nothing but a context. TensorFlow parses that with protobuf; for
    Examples it has a parser of its own, which ends the process at a text that claims to have over 2 GB, and takes some
    records for Examples that are none.
    """
    parsed = tf.raw_ops.ParseSingleSequenceExample(
        serialized=serialized,
        feature_list_dense_missing_assumed_empty=tf.constant([], tf.string),
        context_sparse_keys=[*LISTS],
        context_dense_keys=[*SCALARS],
        feature_list_sparse_keys=[],
        feature_list_dense_keys=[],
        context_dense_defaults=[tf.constant([], _DTYPES[kind]) for kind in SCALARS.values()],  # none
        debug_name="",
        context_sparse_types=[_DTYPES[kind] for kind in LISTS.values()],
        context_dense_shapes=[[] for _ in SCALARS],
    )
    return {
        **dict(zip(SCALARS, parsed.context_dense_values, strict=True)),
        **dict(zip(LISTS, parsed.context_sparse_values, strict=True)),
        _LENGTHS: tf.concat(parsed.context_sparse_shapes, axis=0),
    }


def _sound(example: dict[str, tf.Tensor], num_classes: int | None) -> dict[str, tf.Tensor]:
    """Return the features of a record, or of a batch of padded ones; an InvalidArgumentError if one has a fault."""
    with tf.control_dependencies([tf.debugging.Assert(_is_sound(example, num_classes), ["a record has a fault"])]):
        return {name: tf.identity(value) for name, value in example.items()}


def _is_sound(example: dict[str, tf.Tensor], num_classes: int | None) -> tf.Tensor:
    """Return whether all records are what `faults.fault_of` takes for good ones, a bool scalar.

    Lists of unequal length are an InvalidArgumentError or False.
    """
    labels, size = example[BOX + "label"], tf.stack([example["image/height"], example["image/width"]])
    conditions = [
        tf.reduce_all(tf.equal(example[_LENGTHS], example[_LENGTHS][..., :1])),
        tf.reduce_all(tf.math.is_finite(tf.stack([example[BOX + side] for side in SIDES]))),
        tf.reduce_all(labels >= 1),
        tf.reduce_all(labels <= (tf.int64.max if num_classes is None else num_classes)),
        tf.reduce_all((size >= 1) & (size <= tf.int32.max)),
        tf.reduce_all(tf.strings.length(example["image/encoded"]) > 0),
        tf.reduce_all(tf.strings.regex_full_match(example["image/filename"], _NAME)),
    ]
    return tf.reduce_all(tf.stack(conditions))
