"""The TFRecord schema of one image, the same as in HiKapok/SSD.TensorFlow: each project reads the other's records."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import ArrayLike

from utility.files.protobuf import BYTES, FLOAT, INT64, message_classes
from utility.files.text_files import shortened

# tf.train.Example messages and frames of TFRecord files, without TensorFlow, whose import takes 5 s.

# tensorflow/core/example/{example,feature}.proto. On the wire a map field is a repeated message of key and value.
_MESSAGES = message_classes(
    "records",
    {
        "BytesList": [("value", 1, BYTES)],
        "FloatList": [("value", 1, FLOAT)],
        "Int64List": [("value", 1, INT64)],
        "Feature": [("bytes_list", 1, "BytesList"), ("float_list", 2, "FloatList"), ("int64_list", 3, "Int64List")],
        "FeatureEntry": [("key", 1, BYTES), ("value", 2, "Feature")],
        "Features": [("feature", 1, "FeatureEntry")],
        "Example": [("features", 1, "Features")],
    },
)

_CASTAGNOLI = 0x82F63B78  # the polynomial with its bits reversed
_BLOCK = 512  # bytes; the lookup tables then take 512 kB and stay in the CPU's cache
_BLOCKS_AT_ONCE = 256


def bytes_feature(values: Iterable[bytes]) -> Any:
    """Return a tf.train.Feature that holds a list of byte strings."""
    return _MESSAGES["Feature"](bytes_list=[{"value": values}])


def float_feature(values: ArrayLike) -> Any:
    """Return a tf.train.Feature that holds a list of float32; values [n] are rounded to it."""
    return _MESSAGES["Feature"](float_list=[{"value": np.asarray(values, np.float32).tolist()}])


def int64_feature(values: Iterable[int]) -> Any:
    """Return a tf.train.Feature that holds a list of int64."""
    return _MESSAGES["Feature"](int64_list=[{"value": map(int, values)}])


def encode_example(features: Mapping[str, Any]) -> bytes:
    """Serialize a tf.train.Example, its features sorted by name, so that the bytes are reproducible."""
    entries = [{"key": [name.encode()], "value": [features[name]]} for name in sorted(features)]
    return _MESSAGES["Example"](features=[{"feature": entries}]).SerializeToString(deterministic=True)


def decode_example(serialized: bytes) -> dict[str, tuple[str, Sequence[Any]]]:
    """Return the features of a serialized tf.train.Example by name: the kind "bytes", "float" or "int64", and the list.

    A feature without a value may have no kind, "". Of features with the same name the last counts, as in TensorFlow.
    A google.protobuf.message.DecodeError if it is none.
    """
    example = _MESSAGES["Example"].FromString(serialized)
    entries = [entry for features in example.features for entry in features.feature if entry.key]
    try:
        names = [[key.decode() for key in entry.key][-1] for entry in entries]
    except UnicodeDecodeError as error:
        raise DecodeError("a feature's name is not UTF-8") from error
    return {name: _values(entry) for name, entry in zip(names, entries, strict=True)}


def _values(entry: Any) -> tuple[str, Sequence[Any]]:
    for feature in entry.value[-1:]:
        for kind in ("bytes", "float", "int64"):
            lists = getattr(feature, f"{kind}_list")
            if lists:
                return kind, [value for each in lists for value in each.value]
    return "", []


def frame(record: bytes) -> bytes:
    """Return a record in the frame of a TFRecord file: uint64 length, its CRC, the record, its CRC."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, masked_crc(length), record, masked_crc(record)))


def masked_crc(data: bytes) -> bytes:
    """Return the checksum as TFRecord stores it: rotated right by 15 bits, plus a constant."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of data, 0 to 2^32 - 1.

    A CRC is linear: the remainder of a block is the XOR of the remainders of its bytes, each at its distance from the
    block's end. numpy looks these up for many blocks at once; only the step from block to block is a Python loop.
    """
    crc = 0xFFFFFFFF
    whole = len(data) // _BLOCK * _BLOCK
    blocks = np.frombuffer(data, np.uint8, count=whole).reshape(-1, _BLOCK)
    for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
        indices = blocks[start : start + _BLOCKS_AT_ONCE] + _ROW_STARTS
        # no index is out of range, and mode "wrap" is the fastest
        looked_up = _FLAT_REMAINDERS.take(indices, mode="wrap")
        # [blocks, _BLOCK] -> [blocks]
        for remainder in np.bitwise_xor.reduce(looked_up, axis=1).tolist():
            crc = remainder ^ _carried_over_block(crc)
    for byte in data[whole:]:
        crc = (crc >> 8) ^ _LAST_BYTE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _remainder_tables() -> np.ndarray:
    """Return uint32 [_BLOCK, 256]: the remainder of each value of a byte, by the byte's position in a block."""
    last: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = np.where(last & 1, last >> 1 ^ np.uint32(_CASTAGNOLI), last >> 1)
    tables = [last]
    while len(tables) < _BLOCK:
        tables.append(tables[-1] >> 8 ^ last[tables[-1] & 0xFF])
    return np.stack(tables[::-1])


_REMAINDERS = _remainder_tables()
_FLAT_REMAINDERS = _REMAINDERS.ravel()
_ROW_STARTS = np.arange(_BLOCK) * 256
_LAST_BYTE = _REMAINDERS[-1].tolist()
_FIRST_BYTES = _REMAINDERS[:4].tolist()


def _carried_over_block(crc: int) -> int:
    """Return the remainder of the register after one more block: it counts as the block's first 4 bytes."""
    first, second, third, fourth = _FIRST_BYTES
    return first[crc & 0xFF] ^ second[crc >> 8 & 0xFF] ^ third[crc >> 16 & 0xFF] ^ fourth[crc >> 24]


# Faults of records: damaged bytes, missing features, boxes and class ids that cannot be. Needs no TensorFlow.

SIDES = ("ymin", "xmin", "ymax", "xmax")
BOX = "image/object/bbox/"
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
                file.write(frame(record))
    return faults


def _checked(shard: str, num_classes: int | None, more: FaultOf | None) -> Iterator[tuple[Fault | None, bytes]]:
    """Yield each record of a file, or its fault."""
    with Path(shard).open("rb") as file:
        left, number = os.fstat(file.fileno()).st_size, 0
        while left:
            number += 1
            head = file.read(12)
            length = int.from_bytes(head[:8], "little")
            if len(head) < 12 or masked_crc(head[:8]) != head[8:]:
                yield Fault(shard, number, "its length is cut off or damaged", ends_file=True), b""
                return
            left -= 16 + length
            if left < 0:
                yield Fault(shard, number, "it is cut off", ends_file=True), b""
                return
            record, checksum = file.read(length), file.read(4)
            whole = masked_crc(record) == checksum
            reason = fault_of(record, num_classes) if whole else "its bytes are damaged, for they have another checksum"
            reason = reason or (more(record) if more else "")
            yield (Fault(shard, number, reason) if reason else None), record


def fault_of(serialized: bytes, num_classes: int | None = None) -> str:
    """Return what is wrong with a serialized record, "" for nothing.

    It has a picture, a name, a size, and for each object four finite sides, a mark as difficult or not, and a class
    id from 1 to `num_classes` (None: any from 1 on).
    """
    try:
        features = decode_example(serialized)
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


_SHAPE_NAMES = ("height", "width", "channels")


class RecordObject(NamedTuple):
    """A labelled object of a record."""

    box_yxyx: ArrayLike  # [4] of ymin, xmin, ymax, xmax: the annotation's raw values divided by the image's size
    label: int  # class id, from 1
    label_text: str
    difficult: bool
    truncated: bool


def serialize(image_encoded: bytes, filename: str, height: int, width: int, objects: Sequence[RecordObject]) -> bytes:
    """Return one image and its objects as a serialized tf.train.Example; the same arguments give the same bytes.

    Args:
        image_encoded: a JPEG file, grey or RGB.
        filename: name of the image file, with extension.
        height: of the picture as it came, in pixels; that of the JPEG may be smaller.
        width: likewise.
        objects: the labelled objects, in any order.
    """
    boxes_yxyx = np.array([each.box_yxyx for each in objects], np.float32).reshape(-1, 4)
    shape = (
        height,
        width,
        3,
    )  # also for grey: readers decode it to three channels, and HiKapok/SSD.TensorFlow always writes 3
    features = {
        **{f"image/{name}": int64_feature([n]) for name, n in zip(_SHAPE_NAMES, shape, strict=True)},
        "image/shape": int64_feature(shape),
        "image/encoded": bytes_feature([image_encoded]),
        "image/format": bytes_feature([b"JPEG"]),
        "image/filename": bytes_feature([filename.encode()]),
        **{BOX + side: float_feature(boxes_yxyx[:, i]) for i, side in enumerate(SIDES)},
        BOX + "label": int64_feature(each.label for each in objects),
        BOX + "label_text": bytes_feature(each.label_text.encode() for each in objects),
        BOX + "difficult": int64_feature(each.difficult for each in objects),
        BOX + "truncated": int64_feature(each.truncated for each in objects),
    }
    return encode_example(features)
