"""Reads whole record files with TensorFlow: counts their images, and finds broken records or leaves them out."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.records import faults
from dataset.records.faults import Fault
from dataset.records.parsing import parse
from dataset.records.record_files import records_in
from utility.run.log import log

# what TensorFlow raises at a broken record; the last where its message quotes the record, as bytes that are no text
_FAULTS = (tf.errors.DataLossError, tf.errors.InvalidArgumentError, UnicodeDecodeError)


class ImageCounts(NamedTuple):
    """Numbers of images: all, those with an object, and those with an object that is not difficult."""

    images: int
    with_objects: int
    with_objects_not_difficult: int


@contextmanager
def image_counter(
    num_classes: int | None, read: Callable[[tf.Tensor], tf.data.Dataset] = tf.data.TFRecordDataset
) -> Iterator[Callable[[Sequence[str]], ImageCounts]]:
    """Yield a function that counts the images in record files; it checks all records that `read` gives of the files.

    A broken record is one of TensorFlow's errors.
    """
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
        shards = tf.placeholder(tf.string, [None])
        examples = read(shards).map(lambda record: _marks(parse(record, num_classes)), num_parallel_calls=4)
        counts = examples.reduce(np.zeros(3, np.int64), lambda total, marks: total + marks)
        yield lambda paths: ImageCounts(*session.run(counts, {shards: [*paths]}).tolist())


@tf.autograph.experimental.do_not_convert
def _marks(example: dict[str, tf.Tensor]) -> tf.Tensor:
    some = [True, tf.size(example["labels"]) > 0, tf.reduce_any(tf.logical_not(example["difficult"]))]
    return tf.cast(tf.stack(some), tf.int64)


@contextmanager
def faults_named(shards: Sequence[str], num_classes: int | None = None) -> Iterator[None]:
    """Turn an error of TensorFlow that comes of a broken record in these files into a ValueError that names it.

    The files are searched for the first one; if there is none, the error stays what it is.
    """
    try:
        yield
    except _FAULTS as error:
        fault = _first_fault(shards, num_classes)
        if fault is None:
            raise
        raise ValueError(str(fault)) from error


def _first_fault(shards: Sequence[str], num_classes: int | None) -> Fault | None:
    with image_counter(num_classes) as count:
        broken = (shard for shard in shards if not _can_be_read(shard, count))
        return next((fault for shard in broken for fault in faults.faults_in(shard, num_classes)), None)


def _can_be_read(shard: str, count: Callable[[Sequence[str]], ImageCounts]) -> bool:
    try:
        records_in(shard)  # TensorFlow takes what is too short for the length of a record for the end of the file
        count([shard])
    except (*_FAULTS, ValueError):
        return False
    return True


def without_faults(shards: Sequence[str], num_classes: int) -> list[str]:
    """Return the record files, those with broken records replaced by copies of their whole records; log what is lost.

    All records are read. The copies are removed when the process ends.
    """
    with image_counter(num_classes) as count:
        broken = [shard for shard in shards if not _can_be_read(shard, count)]
    if not broken:
        return [*shards]
    folder = Path(tempfile.mkdtemp(prefix="ssd_records_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copies = {shard: folder / Path(shard).name for shard in broken}
    found = [fault for shard, copy in copies.items() for fault in faults.copy_without_faults(shard, copy, num_classes)]
    if found:
        ends = sum(fault.ends_file for fault in found)
        rest = f" and all that follows in {ends} of the files" if ends else ""
        log(
            f"--skip_bad_records: {len(found)} broken records in {len(broken)} of {len(shards)} record files are left"
            f" out{rest}; the first: {found[0].where()}"
        )
    return [str(copies.get(shard, shard)) for shard in shards]
