"""Caffemodels: the wire format in all its forms, and damaged files."""

import time

import numpy as np
import pytest

from model.weight_formats.caffe import caffemodel
from tests.builders import weight_files as files
from tests.builders.weight_files import floats

BLOBS: dict[str, list[np.ndarray]] = {
    "conv1_1": [np.arange(24.0).reshape(2, 3, 2, 2), np.arange(2.0)],
    "fc6": [np.arange(6.0).reshape(2, 3), np.arange(2.0)],
    "scale": [np.arange(5.0)],
}


@pytest.mark.parametrize("double", [False, True])
def test_reads_layers_with_a_shape(tmp_path, double):
    found = caffemodel.read(str(files.write_caffe(tmp_path / "f", BLOBS, double=double)))
    assert list(found) == list(BLOBS)
    for name, arrays in BLOBS.items():
        for array, expected in zip(found[name], arrays, strict=True):
            assert array.shape == expected.shape
            np.testing.assert_array_equal(array, expected)


def test_reads_v1_layers_with_num_channels_height_and_width(tmp_path):
    found = caffemodel.read(str(files.write_caffe(tmp_path / "f", BLOBS, old=True)))
    assert found["conv1_1"][0].shape == (2, 3, 2, 2)
    assert found["fc6"][0].shape == (1, 1, 2, 3)
    assert found["fc6"][1].tolist() == [[[[0, 1]]]]


def test_fields_that_weights_do_not_need_are_skipped(tmp_path):
    numbers = files.blob(np.arange(3.0), old=False) + files.field(6, bytes(12))  # diff
    layer = files.field(1, b"a") + files.field(3, b"data") + files.field(7, numbers) + files.field(106, b"\x08\x40")
    (tmp_path / "f").write_bytes(files.field(1, b"net") + files.field(3, b"data") + files.field(100, layer))
    assert caffemodel.read(str(tmp_path / "f"))["a"][0].tolist() == [0, 1, 2]


def test_packed_numbers_may_come_in_parts(tmp_path):
    numbers = files.field(7, files.field(1, b"\x03"))
    numbers += files.field(5, floats([1]).tobytes()) + files.field(5, floats([2, 3]).tobytes())
    (tmp_path / "f").write_bytes(files.field(100, files.field(1, b"a") + files.field(7, numbers)))
    assert caffemodel.read(str(tmp_path / "f"))["a"][0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("shape", [[4], [2, 2], [2**31, 2**31]])
def test_numbers_that_do_not_fill_their_shape_are_refused(tmp_path, shape):
    numbers = files.field(7, files.field(1, b"".join(map(files.varint, shape)))) + files.field(5, bytes(12))
    (tmp_path / "f").write_bytes(files.field(100, files.field(1, b"a") + files.field(7, numbers)))
    with pytest.raises(ValueError, match=r"layer 'a' has 12 bytes of numbers"):
        caffemodel.read(str(tmp_path / "f"))


def test_a_negative_shape_is_refused(tmp_path):
    minus = files.varint(2**64 - 3)
    numbers = files.field(7, files.field(1, minus + minus)) + files.field(5, bytes(36))
    (tmp_path / "f").write_bytes(files.field(100, files.field(1, b"a") + files.field(7, numbers)))
    with pytest.raises(ValueError, match=r"\[-3, -3\]"):
        caffemodel.read(str(tmp_path / "f"))


def test_a_file_cut_off_anywhere_is_refused_or_lacks_its_last_layers(tmp_path):
    path = files.write_caffe(tmp_path / "f", BLOBS)
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        try:
            found = caffemodel.read(str(path))
        except ValueError as error:
            assert "as a caffemodel" in str(error)
        else:
            assert all(np.array_equal(found[name][0], BLOBS[name][0]) for name in found)


def axes(count):
    return files.field(7, files.field(1, b"\x03" * count))


HEAVY = {
    "an array of 300,000 axes": (files.field(7, axes(300_000)), "more than 32 axes"),
    "300,000 axes one by one": (
        files.field(7, files.field(7, files.field(1, 2**63 - 1) * 100_000)),
        "more than 30000 f",
    ),
    "axes one by one": (files.field(7, files.field(7, files.field(1, 2**63 - 1) * 1000)), "array of 1000 axes"),
    "millions of blobs": (files.field(7, b"") * 2_000_000, "more than 8 blobs"),
    "a blob in millions of parts": (files.field(7, files.field(5, b"") * 1_000_000), "more than 30000 fields"),
    "groups within groups": (files.varint(9 << 3 | 3) * 1_000_000, "damaged or cut off"),
    "a number without an end": (files.varint(9 << 3) + b"\x80" * 1_000_000, "damaged or cut off"),
    "a length beyond the end": (files.varint(9 << 3 | 2) + files.varint(2**63), "damaged or cut off"),
}


@pytest.mark.parametrize("kind", HEAVY)
def test_what_no_network_has_is_refused_before_it_is_built(tmp_path, kind):
    content, message = HEAVY[kind]
    (tmp_path / "f").write_bytes(files.field(100, files.field(1, b"a") + content))
    start = time.process_time()
    with pytest.raises(ValueError, match=message):
        caffemodel.read(str(tmp_path / "f"))
    assert time.process_time() - start < 2


def test_a_long_name_with_line_breaks_is_quoted_in_short(tmp_path):
    layer = files.field(1, b"\n\x1b" * 10_000) + files.field(7, axes(1) + files.field(5, bytes(4)))
    (tmp_path / "f").write_bytes(files.field(100, layer))
    with pytest.raises(ValueError, match="4 bytes of numbers") as caught:
        caffemodel.read(str(tmp_path / "f"))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200
