"""TFRecord files and Examples against TensorFlow's own writer and parser."""

import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.records import schema

INT64 = st.integers(-(2**63), 2**63 - 1)


def slow_crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_checksum_has_its_published_values():
    # RFC 3720, appendix B.4
    assert schema.crc32c(b"123456789") == 0xE3069283
    assert schema.crc32c(bytes(32)) == 0x8A9136AA
    assert schema.crc32c(b"\xff" * 32) == 0x62A8AB43


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 1024, 5000])
def test_the_checksum_agrees_with_a_bitwise_one(length):
    data = bytes(number * 7919 >> 3 & 0xFF for number in range(length))
    assert schema.crc32c(data) == slow_crc32c(data)


def test_files_are_those_of_tensorflow(tmp_path):
    contents = [b"", b"a", bytes(range(256)) * 3, b"\xff\xd8" * 200_000]
    with tf.io.TFRecordWriter(str(tmp_path / "tensorflow")) as writer:
        for record in contents:
            writer.write(record)
    assert b"".join(map(schema.frame, contents)) == (tmp_path / "tensorflow").read_bytes()


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
            name + "b": schema.bytes_feature(texts),
            name + "i": schema.int64_feature(numbers),
            name + "f": schema.float_feature(floats),
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


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_a_number_outside_of_int64_is_refused(value):
    with pytest.raises(ValueError, match="out of range"):
        schema.int64_feature([value])


def test_features_may_be_given_in_any_order_and_as_generators():
    features = {"b": schema.int64_feature(flag for flag in (True, False)), "a": schema.bytes_feature(iter([b"x"]))}
    assert schema.encode_example(features) == schema.encode_example(dict(reversed(features.items())))
    example = tf.train.Example.FromString(schema.encode_example(features))
    assert example.features.feature["b"].int64_list.value == [1, 0]
