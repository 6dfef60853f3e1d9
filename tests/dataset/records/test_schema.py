"""Records are written by the reference's schema, as TensorFlow writes them, and read back."""

from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.records import schema
from dataset.records.parsing import read_examples
from dataset.records.schema import RecordObject, serialize
from utility.files.tfrecord import frame

INT64 = st.integers(-(2**63), 2**63 - 1)
OBJECTS = st.lists(
    st.tuples(st.tuples(*[st.floats(0, 1, width=32)] * 4), st.integers(1, 90), st.booleans(), st.text(max_size=5)),
    max_size=6,
)


def test_files_are_those_of_tensorflow(tmp_path):
    contents = [b"", b"a", bytes(range(256)) * 3, b"\xff\xd8" * 200_000]
    with tf.io.TFRecordWriter(str(tmp_path / "tensorflow")) as writer:
        for record in contents:
            writer.write(record)
    assert b"".join(map(frame, contents)) == (tmp_path / "tensorflow").read_bytes()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.binary(max_size=300)),
    st.lists(INT64),
    st.lists(st.floats(width=32, allow_nan=False)),
    st.text(),
)
def test_examples_are_those_of_tensorflow(texts, numbers, floats, name):
    encoded = schema.encode_example(
        {
            name + "b": texts,
            name + "i": np.array(numbers, np.int64),
            name + "f": np.array(floats, np.float32),
        }
    )
    example = tf.train.Example()
    example.features.feature[name + "b"].bytes_list.value.extend(texts)
    example.features.feature[name + "i"].int64_list.value.extend(numbers)
    example.features.feature[name + "f"].float_list.value.extend(floats)
    for key, kind in (("b", "bytes_list"), ("i", "int64_list"), ("f", "float_list")):
        getattr(example.features.feature[name + key], kind).SetInParent()
    assert tf.train.Example.FromString(encoded) == example
    assert encoded == example.SerializeToString(deterministic=True)


def test_features_may_be_given_in_any_order():
    features: dict[str, Any] = {"b": np.array([1, 0]), "a": [b"x"]}
    assert schema.encode_example(features) == schema.encode_example(dict(reversed(features.items())))


def make_record(objects=(), filename="000001.jpg", height=375, width=500, encoded=b"\xff\xd8jpeg"):
    found = [RecordObject(box, label, text, difficult, False) for box, label, difficult, text in objects]
    return serialize(encoded, filename, height, width, found)


def parsed(tmp_path, serialized):
    (tmp_path / "shard").write_bytes(frame(serialized))
    (example,) = read_examples([str(tmp_path / "shard")])
    return example


@settings(max_examples=10, deadline=None)
@given(OBJECTS)
def test_there_and_back(tmp_path_factory, objects):
    example = parsed(tmp_path_factory.mktemp("records"), make_record(objects))
    assert example["image_encoded"] == b"\xff\xd8jpeg"
    assert (example["height"], example["width"]) == (375, 500)
    assert example["boxes_yxyx"].dtype == np.float32
    assert example["boxes_yxyx"].shape == (len(objects), 4)
    assert example["labels"].dtype == np.int64
    assert example["difficult"].dtype == bool
    read = [(tuple(box), label) for box, label in zip(example["boxes_yxyx"], example["labels"], strict=True)]
    assert read == [(box, label) for box, label, _, _ in objects]
    assert example["difficult"].tolist() == [difficult for _, _, difficult, _ in objects]


@pytest.mark.parametrize(
    ("filename", "image_id"),
    [
        ("000001.jpg", b"000001"),
        ("2008_000001.JPEG", b"2008_000001"),
        ("a.b.c.png", b"a.b.c"),
        ("none", b"none"),
        ("mit Leerzeichen ä.jpg", "mit Leerzeichen ä".encode()),
    ],
)
def test_the_id_is_the_name_without_its_last_extension(tmp_path, filename, image_id):
    assert parsed(tmp_path, make_record(filename=filename))["image_id"] == image_id


def test_all_features_of_the_reference_are_there():
    one = ((0.25, 0.5, 0.75, 1.0), 7, True, "car")
    example = tf.train.Example.FromString(make_record([one], encoded=b"\xff\xd8"))
    expected = {
        "image/height": [375], "image/width": [500], "image/channels": [3], "image/shape": [375, 500, 3],
        "image/encoded": [b"\xff\xd8"], "image/format": [b"JPEG"], "image/filename": [b"000001.jpg"],
        "image/object/bbox/ymin": [0.25], "image/object/bbox/xmin": [0.5],
        "image/object/bbox/ymax": [0.75], "image/object/bbox/xmax": [1.0],
        "image/object/bbox/label": [7], "image/object/bbox/label_text": [b"car"],
        "image/object/bbox/difficult": [1], "image/object/bbox/truncated": [0],
    }  # fmt: skip
    feature = example.features.feature
    read = {key: list(getattr(feature[key], feature[key].WhichOneof("kind")).value) for key in feature}
    assert read == expected


def test_a_record_of_the_reference_is_read(tmp_path):
    """As its _convert_to_example builds one, for an image without objects: lists that are set but empty."""
    example = tf.train.Example()
    feature = example.features.feature
    for key, values in (("height", [3]), ("width", [4]), ("channels", [3]), ("shape", [3, 4, 3])):
        feature[f"image/{key}"].int64_list.value.extend(values)
    for key, value in (("encoded", b"x"), ("format", b"JPEG"), ("filename", b"2007_000027.jpg")):
        feature[f"image/{key}"].bytes_list.value.append(value)
    for key in ("ymin", "xmin", "ymax", "xmax"):
        feature[f"image/object/bbox/{key}"].float_list.SetInParent()
    for key in ("label", "difficult", "truncated"):
        feature[f"image/object/bbox/{key}"].int64_list.SetInParent()
    feature["image/object/bbox/label_text"].bytes_list.SetInParent()
    read = parsed(tmp_path, example.SerializeToString())
    assert read["image_id"] == b"2007_000027"
    assert read["boxes_yxyx"].shape == (0, 4)
