"""Records with one fault each, and record files that hold them."""

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.records.record_files import BOX
from dataset.records.schema import RecordObject, serialize
from tests.builders.records import encoded, record
from utility.files.tfrecord import frame

NUMBER = 2  # the broken record's place in its file, from 1


def without(*names):
    example = tf.train.Example.FromString(record(1))
    for name in names:
        del example.features.feature[name]
    return example.SerializeToString()


def with_values(name, kind, values):
    example = tf.train.Example.FromString(without(name))
    getattr(example.features.feature[name], f"{kind}_list").value.extend(values)
    return example.SerializeToString()


def with_box(*box, label=8):
    return serialize(encoded(1), "001.jpg", 40, 48, [RecordObject(box, label, "", False, False)])


RECORDS = {
    "no example": (b"\xff\xff\xff", "no tf.train.Example"),
    "no picture": (without("image/encoded"), "feature image/encoded has 0 values"),
    "empty picture": (with_values("image/encoded", "bytes", [b""]), "feature image/encoded is empty"),
    "no name": (without("image/filename"), "feature image/filename has 0 values"),
    "two heights": (with_values("image/height", "int64", [40, 40]), "image/height has 2 values"),
    "no width": (with_values("image/width", "int64", [0]), r"height and width are \[40 0\]"),
    "huge height": (with_values("image/height", "int64", [2**40]), r"height and width are \[1099511627776 48\]"),
    "another kind": (with_values(BOX + "label", "float", [8.0]), "feature of another kind: image/object/bbox/label"),
    "latin-1": (with_values("image/filename", "bytes", ["caf\xe9.jpg".encode("latin-1") * 99]), "not UTF-8"),
    "surrogate": (with_values("image/filename", "bytes", [b"\xed\xa0\x80.jpg"]), "not UTF-8"),
    "line break": (with_values("image/filename", "bytes", [b"a\nb.jpg"]), "control character"),
    "NUL": (with_values("image/filename", "bytes", [b"a\x00b.jpg"]), "control character"),
    "empty name": (with_values("image/filename", "bytes", [b""]), "is empty"),
    "more labels": (with_values(BOX + "label", "int64", [8, 8]), r"difficult have unequal lengths: \[1 1 1 1 2 1\]"),
    "no difficult": (without(BOX + "difficult"), r"unequal lengths: \[1 1 1 1 1 0\]"),
    "fewer sides": (with_values(BOX + "xmax", "float", []), r"unequal lengths: \[1 1 1 0 1 1\]"),
    "NaN": (with_box(0.1, np.nan, 0.5, 0.5), "side of its boxes is not finite"),
    "infinite": (with_box(0.1, 0.1, np.inf, 0.5), "side of its boxes is not finite"),
    "label 0": (with_box(0.1, 0.1, 0.5, 0.5, label=0), "class ids from 0 to 0, but there are 20 class names"),
    "label 21": (with_box(0.1, 0.1, 0.5, 0.5, label=21), "class ids from 21 to 21, but there are 20 class names"),
}


def flipped_bit(frames):
    return damaged(frames, 12 + 40)


def flipped_checksum(frames):
    return damaged(frames, len(frames[1]) - 1)


def damaged(frames, position):
    broken = bytearray(frames[1])
    broken[position] ^= 16
    return b"".join([frames[0], bytes(broken), *frames[2:]])


def flipped_length(frames):
    return damaged(frames, 2)


def cut_off(frames):
    return frames[0] + frames[1][:-9]


def cut_off_in_a_length(frames):
    return frames[0] + frames[1][:9]


BYTES = {
    "flipped bit": (flipped_bit, "its bytes are damaged"),
    "flipped checksum": (flipped_checksum, "its bytes are damaged"),
}
ENDS = {
    "flipped length": (flipped_length, "its length is cut off or damaged, so the rest of the file is lost"),
    "cut off in a length": (cut_off_in_a_length, "its length is cut off or damaged, so the rest of the file is lost"),
    "cut off": (cut_off, "it is cut off, so the rest of the file is lost"),
}


def shard_of(kind):
    """The bytes of a file of five records, the second of which is broken, and a pattern of what is wrong with it."""
    if kind in RECORDS:
        broken, reason = RECORDS[kind]
        frames = [frame(broken if n == NUMBER - 1 else record(n)) for n in range(5)]
        return b"".join(frames), reason
    spoil, reason = {**BYTES, **ENDS}[kind]
    return spoil([frame(record(n)) for n in range(5)]), reason


def write(folder, kind, prefix="train"):
    """Write two shards, the second of which has the broken record; returns the paths, and the reason as a pattern."""
    paths = [folder / f"{prefix}-0000{n}-of-00002" for n in (0, 1)]
    paths[0].write_bytes(frame(record(9)))
    data, reason = shard_of(kind)
    paths[1].write_bytes(data)
    return [str(path) for path in paths], reason
