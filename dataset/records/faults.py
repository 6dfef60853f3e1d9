"""Faults of records: damaged bytes, missing features, boxes and class ids that cannot be. Needs no TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from dataset.records import tfrecord
from dataset.records.schema import BOX, SIDES
from utility.files.text_files import shortened

SCALARS = {"image/encoded": "bytes", "image/filename": "bytes", "image/height": "int64", "image/width": "int64"}
LISTS = {**{BOX + side: "float" for side in SIDES}, BOX + "label": "int64", BOX + "difficult": "int64"}

_Features = Mapping[str, tuple[str, Sequence[Any]]]
FaultOf = Callable[[bytes], str]  # what is wrong with a serialized record, "" for nothing
_LARGEST_SIDE = 2**31 - 1
_MOST_QUOTED = 60  # characters of a name in a message
_LAST_CONTROL_CHARACTER = 31


class Fault(NamedTuple):
    """What is wrong with a record, whose `number` in its file counts from 1."""

    shard: str
    number: int
    reason: str
    ends_file: bool = False  # the records after it cannot be found any more

    def __str__(self) -> str:
        """Return a line that names file, record, and fix."""
        return (
            f"{self.where()}. Copy or convert the data set again; train_ssd.py and eval_ssd.py leave broken records out"
            " with --skip_bad_records"
        )

    def where(self) -> str:
        """Return file, record, and reason."""
        lost = ", so the rest of the file is lost" if self.ends_file else ""
        return f"the record file {self.shard}, record {self.number}: {self.reason}{lost}"


def faults_in(shard: str, num_classes: int | None = None, more: FaultOf | None = None) -> Iterator[Fault]:
    """Yield the faults of a record file, of each record the first.

    `fault_of` has the meaning of `num_classes`; `more` is asked about records in which it finds nothing.
    """
    return (fault for fault, _ in _checked(shard, num_classes, more) if fault)


def copy_without_faults(
    shard: str, copy: Path, num_classes: int | None = None, more: FaultOf | None = None
) -> list[Fault]:
    """Write the records of a file without a fault to `copy`, in order; return the faults of the others.

    The arguments are those of `faults_in`.
    """
    faults = []
    with copy.open("wb") as file:
        for fault, record in _checked(shard, num_classes, more):
            if fault:
                faults.append(fault)
            else:
                file.write(tfrecord.frame(record))
    return faults


def _checked(shard: str, num_classes: int | None, more: FaultOf | None) -> Iterator[tuple[Fault | None, bytes]]:
    """Yield each record of a file, or its fault."""
    with Path(shard).open("rb") as file:
        left, number = os.fstat(file.fileno()).st_size, 0
        while left:
            number += 1
            head = file.read(12)
            length = int.from_bytes(head[:8], "little")
            if len(head) < 12 or tfrecord.masked_crc(head[:8]) != head[8:]:
                yield Fault(shard, number, "its length is cut off or damaged", ends_file=True), b""
                return
            left -= 16 + length
            if left < 0:
                yield Fault(shard, number, "it is cut off", ends_file=True), b""
                return
            record, checksum = file.read(length), file.read(4)
            whole = tfrecord.masked_crc(record) == checksum
            reason = fault_of(record, num_classes) if whole else "its bytes are damaged, for they have another checksum"
            reason = reason or (more(record) if more else "")
            yield (Fault(shard, number, reason) if reason else None), record


def fault_of(serialized: bytes, num_classes: int | None = None) -> str:
    """Return what is wrong with a serialized record, "" for nothing.

    It has a picture, a name, a size, and for each object four finite sides, a mark as difficult or not, and a class
    id from 1 to `num_classes` (None: any from 1 on).
    """
    try:
        features = tfrecord.decode_example(serialized)
    except DecodeError:
        return "it is no tf.train.Example"
    kinds = {**SCALARS, **LISTS}
    wrong = [name for name, kind in kinds.items() if name in features and features[name][0] not in (kind, "")]
    if wrong:
        return f"the feature {wrong[0]} holds no {kinds[wrong[0]]}"
    return _fault_of_image(features) or _fault_of_objects(features, num_classes)


def _fault_of_image(features: _Features) -> str:
    for name in SCALARS:
        values = features.get(name, ("", ()))[1]
        if len(values) != 1:
            return f"the feature {name} " + (f"has {len(values)} values instead of one" if values else "is missing")
    for name in ("image/height", "image/width"):
        if not 1 <= features[name][1][0] <= _LARGEST_SIDE:
            return f"the feature {name} is {features[name][1][0]}"
    if not features["image/encoded"][1][0]:
        return "the feature image/encoded is empty"
    return _fault_of_name(features["image/filename"][1][0])


def _fault_of_name(filename: bytes) -> str:
    try:
        name = filename.decode()
    except UnicodeDecodeError:
        return f"the name {shortened(filename)} in image/filename is not UTF-8"
    if not name or any(ord(each) <= _LAST_CONTROL_CHARACTER or each == "\x7f" for each in name):
        return f"the name {shortened(repr(name[:_MOST_QUOTED]))} in image/filename is empty or has a control character"
    return ""


def _fault_of_objects(features: _Features, num_classes: int | None) -> str:
    lists = {name: features.get(name, ("", ()))[1] for name in LISTS}
    if len({len(values) for values in lists.values()}) > 1:
        counts = ", ".join(f"{len(values)} {name.rpartition('/')[2]}" for name, values in lists.items())
        return f"its lists have unequal lengths: {counts}"
    for side in SIDES:
        if not np.isfinite(lists[BOX + side]).all():
            return f"a {side} of its boxes is not finite"
    ids = sorted(set(lists[BOX + "label"]))
    if not ids or (ids[0] >= 1 and (num_classes is None or ids[-1] <= num_classes)):
        return ""
    name = features["image/filename"][1][0].decode().rpartition(".")
    image_id = (name[0] if name[1] else name[2])[:_MOST_QUOTED]
    named = "class ids begin with 1" if num_classes is None else f"there are {num_classes} class names"
    hint = ": the records and labels.txt may be of different data sets" if ids[0] >= 1 else ""
    return f"image {image_id} has class ids {shortened(ids)}, but {named}{hint}"
