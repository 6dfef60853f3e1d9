"""Reads records: what a sound one is, its parser in TensorFlow, and which records of a file are broken."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.records.record_files import BOX, SIDES, foreign_records
from dataset.sources.annotations import Annotation, LabelledObject
from preprocessing.ssd_preprocessing import decode
from utility.errors import UserError
from utility.files.tfrecord import frame, masked_crc, record_spans
from utility.run.log import log
from utility.run.sessions import cpu_session
from utility.startup.start import filtered_stderr

_SCALARS = {
    "image/encoded": tf.string, "image/filename": tf.string, "image/height": tf.int64, "image/width": tf.int64
}  # fmt: skip
_LISTS = {**{BOX + side: tf.float32 for side in SIDES}, BOX + "label": tf.int64, BOX + "difficult": tf.int64}
_NAME = r"[^\x00-\x1f\x7f\x{D800}-\x{DFFF}]+"  # of UTF-8; RE2 matches no bytes that are none


def parse(serialized: tf.Tensor, num_classes: int | None = None) -> dict[str, tf.Tensor]:
    """Parse one record, a string scalar, to a dictionary of tensors; the inverse of `schema.serialize`.

    `image_encoded` string []; `image_id` string [], the file name without its last extension; `height` and
    `width` int32 [] in pixels; `boxes_yxyx` float32 [N, 4] in [0, 1]; `labels` int64 [N]; `difficult` bool
    [N]. N is 0 for an image without objects.

    A broken record is an InvalidArgumentError; `faults_named` names it. A sound one has a picture, a name, a size, and
    for each object four finite sides, a mark as difficult or not, and a class id from 1 to `num_classes` (None: any
    from 1 on).
    """
    kinds = {**_SCALARS, **_LISTS}
    features = {name: tf.io.FixedLenSequenceFeature([], kind, allow_missing=True) for name, kind in kinds.items()}
    lists = tf.io.parse_single_example(serialized, features)
    filename, labels = lists["image/filename"], lists[BOX + "label"]
    image_id = tf.strings.reduce_join(tf.strings.regex_replace(filename, r"\.[^.]*$", ""))
    size = tf.concat([lists["image/height"], lists["image/width"]], axis=0)
    sides = tf.concat([lists[BOX + side] for side in SIDES], axis=0)
    lengths = tf.stack([tf.size(lists[name]) for name in _LISTS])
    conditions, faults = [], []

    def must(condition: tf.Tensor, otherwise: str | tf.Tensor) -> None:
        conditions.append(tf.reduce_all(condition))
        faults.append(otherwise)

    for name in _SCALARS:
        count = tf.size(lists[name])
        must(tf.equal(count, 1), tf.strings.format(f"the feature {name} has {{}} values instead of one", count))
    must(tf.strings.length(lists["image/encoded"]) > 0, "the feature image/encoded is empty")
    must((size >= 1) & (size <= tf.int32.max), tf.strings.format("its height and width are {}", size))
    is_name = tf.strings.regex_full_match(filename, _NAME)
    must(is_name, "the name in image/filename is empty, is not UTF-8 or has a control character")
    names = ", ".join(name.rpartition("/")[2] for name in _LISTS)
    unequal = tf.strings.format(f"its lists {names} have unequal lengths: {{}}", lengths, summarize=len(_LISTS))
    must(tf.equal(lengths, lengths[0]), unequal)
    must(tf.math.is_finite(sides), "a side of its boxes is not finite")
    known = "class ids begin with 1" if num_classes is None else f"there are {num_classes} class names"
    hint = "the records and labels.txt may be of different data sets"
    ids = tf.strings.format("from {} to {}", (tf.reduce_min(labels), tf.reduce_max(labels)))
    must(
        (labels >= 1) & (labels <= (tf.int64.max if num_classes is None else num_classes)),
        tf.strings.join(["image ", image_id, " has class ids ", ids, f", but {known}: {hint}"]),
    )
    first = tf.where(tf.logical_not(tf.stack([*conditions, False])))[0, 0]
    # not tf.Assert, which would be a condition in the graph
    sound = tf.raw_ops.Assert(condition=tf.equal(first, len(faults)), data=[tf.stack([*faults, ""])[first]])
    with tf.control_dependencies([sound]):
        lists = {name: tf.identity(values) for name, values in lists.items()}
    return {
        "image_encoded": tf.reshape(lists["image/encoded"], []),
        "image_id": image_id,
        "height": tf.cast(tf.reshape(lists["image/height"], []), tf.int32),
        "width": tf.cast(tf.reshape(lists["image/width"], []), tf.int32),
        "boxes_yxyx": tf.stack([lists[BOX + side] for side in SIDES], axis=-1),
        "labels": lists[BOX + "label"],
        "difficult": tf.cast(lists[BOX + "difficult"], tf.bool),
    }


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


_AT_ONCE = 32  # records in memory
_THREADS = 4
_NOISE = ("rendezvous is aborting", "OP_REQUIRES failed", "[[{{node", "jpeg_mem.cc")  # TensorFlow's lines on an error
_JPEG = b"\xff\xd8\xff"
_OWN, _FOREIGN = f"{BOX}label".encode(), b"image/object/class/label"  # the second: TensorFlow's Object Detection API's


def read_examples(
    shards: Sequence[str], num_classes: int | None = None, *, with_pictures: bool = True, most: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the examples of record files in order: what `parse` returns, as numpy values.

    Args:
        shards: the record files.
        num_classes: as in `parse`.
        with_pictures: False leaves `image_encoded` out.
        most: read so many records of each file; None: all.

    Raises:
        UserError: names the first broken record.
    """
    for found in _checked(shards, num_classes, most=most):
        if isinstance(found, Fault):
            raise UserError(str(found))
        if not with_pictures:
            del found["image_encoded"]
        yield found


def _checked(
    shards: Sequence[str], num_classes: int | None, decoded_for: str = "", most: int | None = None
) -> Iterator[dict[str, Any] | Fault]:
    """Yield the example of each record, as numpy values, or its fault; a fault of a file's end comes last.

    `decoded_for` "training" decodes the pictures too, which must be JPEGs, and "evaluation" those of any format.
    """
    with tf.Graph().as_default() as graph:
        serialized, encoded = tf.placeholder(tf.string, []), tf.placeholder(tf.string, [])
        example = parse(serialized, num_classes)
        pixels = tf.io.decode_jpeg(encoded, channels=3) if decoded_for == "training" else decode(encoded)
    with cpu_session(graph) as session, ThreadPoolExecutor(_THREADS) as pool:

        def checked(record: bytes, checksum: bytes) -> dict[str, Any] | str:
            if masked_crc(record) != checksum:
                return "its bytes are damaged, for they have another checksum"
            if _FOREIGN in record and _OWN not in record:
                raise UserError(foreign_records(shard, Path(shard).parent))
            try:
                values = session.run(example, {serialized: record})
            except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
                return _reason(error)
            if decoded_for == "training" and not values["image_encoded"].startswith(_JPEG):
                return "its picture is no JPEG, which training needs"
            if decoded_for:
                try:
                    session.run(pixels.op, {encoded: values["image_encoded"]})
                except tf.errors.InvalidArgumentError:
                    return "its picture cannot be decoded"
            return values

        for shard in shards:
            spans, end = record_spans(shard)
            if most is not None and len(spans) >= most:
                spans, end = spans[:most], ""
            for start in range(0, len(spans), _AT_ONCE):
                records = _read_records(shard, spans[start : start + _AT_ONCE])
                with filtered_stderr(_NOISE):
                    results = [*pool.map(checked, *zip(*records, strict=True))]
                for number, result in enumerate(results, start=start + 1):
                    yield Fault(shard, number, result) if isinstance(result, str) else result
            if end:
                yield Fault(shard, len(spans) + 1, end, ends_file=True)


def _read_records(shard: str, spans: Sequence[tuple[int, int]]) -> list[tuple[bytes, bytes]]:
    """Return the records at these positions of a file, of these lengths, each with its checksum."""
    found = []
    with Path(shard).open("rb") as file:
        for position, length in spans:
            file.seek(position)
            found.append((file.read(length), file.read(4)))
    return found


def _reason(error: tf.errors.InvalidArgumentError | UnicodeDecodeError) -> str:
    """Return why a record cannot be parsed: the text of the rule in `parse`, or what TensorFlow says of a feature.

    Of bytes that are no Example it quotes them, which need not be text.
    """
    for line in str(error).splitlines():
        if line.startswith("assertion failed: ["):
            return line.removeprefix("assertion failed: [").removesuffix("]")
        if line.startswith("Key: "):
            return f"a feature of another kind: {line.removeprefix('Key: ')}"
    return "it is no tf.train.Example"


@contextmanager
def faults_named(shards: Sequence[str], num_classes: int | None = None, jpeg_only: bool = False) -> Iterator[None]:
    """Turn an error of TensorFlow that comes of a broken record in these files into a UserError that names it.

    The files are searched for the first one, also for a picture that cannot be decoded; `jpeg_only`, for training,
    means also one that is no JPEG. If there is none, the error stays what it is.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        log(f"looking for the broken record in {len(shards)} record files")
        results = _checked(shards, num_classes, "training" if jpeg_only else "evaluation")
        fault = next((result for result in results if isinstance(result, Fault)), None)
        if fault is None:
            raise
        raise UserError(str(fault)) from error


def without_faults(shards: Sequence[str], num_classes: int, jpeg_only: bool = False) -> list[str]:
    """Return the record files, those with broken records replaced by copies of their whole records; log what is lost.

    All records are read and all pictures decoded; `jpeg_only`, for training, leaves out those that are no JPEGs. The
    copies are removed when the process ends.
    """
    log(f"--skip_bad_records: reading and decoding all of {len(shards)} record files once")
    results = _checked(shards, num_classes, "training" if jpeg_only else "evaluation")
    faults = [result for result in results if isinstance(result, Fault)]
    if not faults:
        return [*shards]
    folder = Path(tempfile.mkdtemp(prefix="ssd_records_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copies = {fault.shard: str(folder / Path(fault.shard).name) for fault in faults}
    for shard, copy in copies.items():
        left_out = {fault.number for fault in faults if fault.shard == shard}
        with Path(copy).open("wb") as file:
            for number, span in enumerate(record_spans(shard)[0], start=1):
                if number not in left_out:
                    file.writelines(frame(record) for record, _ in _read_records(shard, [span]))
    ends = sum(fault.ends_file for fault in faults)
    rest = f" and all that follows in {ends} of the files" if ends else ""
    log(
        f"--skip_bad_records: {len(faults)} broken records in {len(copies)} of {len(shards)} record files are left"
        f" out{rest}; the first: {faults[0].where()}"
    )
    return [copies.get(shard, shard) for shard in shards]


_FIRST = 64  # records of a file that are looked at before training starts


def first_examples(shards: list[str], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the examples of the first records of each file as numpy values, without the pictures.

    They are enough to recognise another data set's labels.txt; reading all records could take minutes.

    Raises:
        UserError: one of them is broken or has a label without a name.
    """
    return [*read_examples(shards, len(class_names), with_pictures=False, most=_FIRST)]


def ground_truth_of(shards: list[str], class_names: Sequence[str]) -> list[Annotation]:
    """Read the objects of records back as annotations; no picture is decoded.

    Boxes are the annotation's raw pixels, rounded to a thousandth. A UserError names a broken record, also one with a
    label without a name in `class_names`.
    """
    found = []
    for example in read_examples(shards, len(class_names), with_pictures=False):
        image_id, height, width = example["image_id"].decode(), int(example["height"]), int(example["width"])
        # float32 fractions of the image are exact to about a thousandth of a pixel
        boxes = np.round(example["boxes_yxyx"].astype(np.float64) * [height, width, height, width], 3)
        rows = zip(boxes.tolist(), example["labels"].tolist(), example["difficult"].tolist(), strict=True)
        objects = [
            LabelledObject(class_names[label - 1], tuple(box), difficult, False) for box, label, difficult in rows
        ]
        found.append(Annotation(image_id, Path(image_id), height, width, tuple(objects)))
    return found
