"""The index of a checkpoint: damage of which TensorFlow dies is one line, and what TensorFlow writes passes."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto

from tests.builders.checkpoints import ONE, save
from tests.builders.tables import write_table
from tests.builders.weight_files import floats
from utility.checkpoints import checkpoint_files


def entry(sides=(2,), dtype=tf.float32.as_datatype_enum, **fields) -> bytes:
    made = BundleEntryProto(dtype=dtype, size=8, **fields)
    for side in sides:
        made.shape.dim.add(size=side)
    return made.SerializeToString()


def of_unknown_rank() -> bytes:
    made = BundleEntryProto(dtype=tf.float32.as_datatype_enum)
    made.shape.unknown_rank = True
    return made.SerializeToString()


WRONG = {
    "no message": (b"\xff\xff", "its index is damaged"),
    "a message cut off": (entry()[:-1], "its index is damaged"),
    "a negative side": (entry([-1]), "has a of a shape that no variable has"),
    "more numbers than int64 has": (entry([2**40, 2**40]), "has a of a shape that no variable has"),
    "255 axes": (entry([1] * 255), "has a of a shape that no variable has"),
    "an unknown rank": (of_unknown_rank(), "has a of a shape that no variable has"),
    "no type": (entry(dtype=0), "has a of a type that no variable has"),
    "a type that is none": (entry(dtype=99), "has a of a type that no variable has"),
    "a type of handles": (entry(dtype=tf.resource.as_datatype_enum), "has a of a type that no variable has"),
    "parts": (entry(slices=[{}]), "has a in parts, which is not read: save it without a partitioner"),
}


def refuse(prefix: str, index: bytes, why: str) -> None:
    Path(f"{prefix}.index").write_bytes(index)
    for read in (checkpoint_files.resolve, checkpoint_files.open_checkpoint):
        with pytest.raises(ValueError, match=why) as caught:
            read(prefix)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def entries_of(prefix: str) -> list[tuple[bytes, bytes]]:
    return list(checkpoint_files.entries(Path(f"{prefix}.index").read_bytes()))


@pytest.mark.parametrize("kind", WRONG)
def test_a_damaged_entry_with_a_right_checksum_is_one_line(tmp_path, kind):
    """TensorFlow ends the process at most of them."""
    prefix = save(tmp_path / "m.ckpt", ONE)
    header, _ = entries_of(prefix)
    damaged, why = WRONG[kind]
    refuse(prefix, write_table([header, (b"a", damaged)]), why)


@pytest.mark.parametrize("starts", [b"", (1).to_bytes(4, "little"), bytes(4) + (3).to_bytes(4, "little"), b"\xff" * 4])
def test_a_search_that_would_start_between_entries_is_refused(tmp_path, starts):
    prefix = save(tmp_path / "m.ckpt", ONE)
    refuse(prefix, write_table(entries_of(prefix), starts=starts), "its index is damaged")


def test_a_file_that_is_no_table_is_refused(tmp_path):
    prefix = save(tmp_path / "m.ckpt", ONE)
    whole = Path(f"{prefix}.index").read_bytes()
    refuse(prefix, whole[:-1], "its index is cut off, or none")
    refuse(prefix, whole[-40:], "its index is cut off, or none")
    refuse(prefix, bytes(100) + whole[-48:], "its index is damaged")
    refuse(prefix, whole[:-48] + b"\xff" * 40 + whole[-8:], "its index is damaged")


def test_a_huge_index_is_not_read(tmp_path):
    prefix = save(tmp_path / "m.ckpt", ONE)
    with Path(f"{prefix}.index").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="its index has 1099511627776 bytes, more than any network's"):
        checkpoint_files.resolve(prefix)


TYPES = [
    *(tf.bfloat16, tf.float16, tf.float32, tf.float64, tf.complex64, tf.complex128),
    *(tf.bool, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
]


def test_what_tensorflow_writes_passes(tmp_path):
    """Every type, scalars, no numbers at all, long and similar names, and more entries than a block holds."""
    values = {f"of_{dtype.name}": np.ones([2, 3], dtype.as_numpy_dtype) for dtype in TYPES}
    values |= {"text": np.array([b"abc", b""]), "scalar": floats(1), "empty": np.zeros([0, 3], np.float32)}
    values |= {f"scope_{number}/{'x' * number}/kernel": floats([number]) for number in range(300)}
    names = sorted(values)
    prefix = str(tmp_path / "m.ckpt")
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = [tf.constant(values[name]) for name in names]
        session.run(
            tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
        )
    checkpoint_files.check(Path(f"{prefix}.index"))
    assert [name.decode() for name, _ in entries_of(prefix)] == ["", *names]
    reader = checkpoint_files.open_checkpoint(checkpoint_files.resolve(prefix))
    for name in names:
        np.testing.assert_array_equal(reader.get_tensor(name), values[name])


def test_the_entries_are_those_of_a_v1_checkpoint_too(tmp_path):
    prefix = save(tmp_path / "m.ckpt", ONE, version=tf.train.SaverDef.V1)
    entries = list(checkpoint_files.entries(Path(prefix).read_bytes()))
    assert [key for key, _ in entries][:1] == [b""] and len(entries) == 2
    Path(prefix).write_bytes(write_table(entries))
    assert checkpoint_files.open_checkpoint(checkpoint_files.resolve(prefix)).get_tensor("a") == [1]
    Path(prefix).write_bytes(write_table([(b"", b"\xff"), *entries[1:]]))
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint_files.resolve(prefix)


def test_a_variable_in_parts_is_one_line(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("a", [4, 2], partitioner=tf.fixed_size_partitioner(2))
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "m.ckpt"), write_meta_graph=False)
    with pytest.raises(
        ValueError, match=r"its index has .* in parts, which is not read: save it without a partitioner"
    ):
        checkpoint_files.resolve(prefix)
