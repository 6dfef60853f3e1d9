"""Reads whole record files with TensorFlow: counts their images, and finds broken records or leaves them out."""

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

from dataset.records import faults, pictures
from dataset.records.faults import Fault
from dataset.records.parsing import checked_batches
from dataset.records.record_files import records_in
from utility.run.log import log
from utility.startup.start import filtered_stderr

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
    """Turn an error of TensorFlow that comes of a broken record in these files into a ValueError that names it.

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
        raise ValueError(str(fault)) from error


def _first_fault(shards: Sequence[str], num_classes: int | None) -> Fault | None:
    log(f"looking for the broken record in {len(shards)} record files")
    with image_counter(num_classes) as count:
        broken = (shard for shard in shards if not _can_be_read(shard, count))
        return next((fault for shard in broken for fault in faults.faults_in(shard, num_classes)), None)


def _first_bad_picture(shards: Sequence[str], num_classes: int | None, jpeg_only: bool) -> Fault | None:
    log("all records are whole: looking for one with a picture that cannot be decoded")
    with image_counter(num_classes, look=pictures.look(jpeg_only)) as count:
        broken = next((shard for shard in shards if not _can_be_read(shard, count)), None)
    if broken is None:
        return None
    with pictures.fault_of_picture(jpeg_only) as of_picture:
        return next(faults.faults_in(broken, num_classes, of_picture), None)


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
    with image_counter(num_classes, look=pictures.look(jpeg_only)) as count:
        broken = [shard for shard in shards if not _can_be_read(shard, count)]
    if not broken:
        return [*shards]
    folder = Path(tempfile.mkdtemp(prefix="ssd_records_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copies = {shard: folder / Path(shard).name for shard in broken}
    with pictures.fault_of_picture(jpeg_only) as of_picture:
        each = (faults.copy_without_faults(shard, copy, num_classes, of_picture) for shard, copy in copies.items())
        found = [fault for of_file in each for fault in of_file]
    if found:
        ends = sum(fault.ends_file for fault in found)
        rest = f" and all that follows in {ends} of the files" if ends else ""
        log(
            f"--skip_bad_records: {len(found)} broken records in {len(broken)} of {len(shards)} record files are left"
            f" out{rest}; the first: {found[0].where()}"
        )
    return [str(copies.get(shard, shard)) for shard in shards]
