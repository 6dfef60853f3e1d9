"""Keras' ResNet50 and MobileNet: files that are not of them. What they compute is in tests/net/network."""

import h5py
import numpy as np
import pytest

from model.weight_formats.keras import backbones
from tests.builders.weight_files import floats
from tests.model.weight_formats.helpers import refuse


@pytest.fixture(scope="module")
def shapes():
    """Layer/kind -> shape of the smallest MobileNet."""
    expected = backbones._expected("mobilenet_v1", 0.25)
    return {name.removeprefix("mobilenet_v1/"): shape for name, shape in expected.items()}


def write(path, shapes, **changed):
    """Write a MobileNet with other datasets in place of some, by the name with two underscores for its slash."""
    with h5py.File(path, "w") as file:
        for name, shape in shapes.items():
            layer, kind = name.split("/")
            file[f"{layer}/{layer}/{kind}:0"] = np.full(shape, 0.5, np.float32)
        for name, data in changed.items():
            layer, kind = name.split("__")
            place = f"{layer}/{layer}/{kind}:0"
            if place in file:
                del file[place]
            if isinstance(data, tuple):
                file.create_dataset(place, data, "f4")
            elif data is not None:
                file[place] = data
    return path


def test_a_small_mobilenet_is_read(tmp_path, shapes):
    network = backbones.read(str(write(tmp_path / "f", shapes)), backbones.FAMILIES[1], (123.0, 117.0, 104.0))
    assert network.depth_multiplier == 0.25
    assert len(network.variables) == len(shapes)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"conv1__kernel": floats(1)}, r"conv1/kernel has the shape \(\)"),
        ({"conv1__kernel": (3, 3, 3, 0)}, "the last from 1 to 64"),
        ({"conv1__kernel": (3, 3, 3, 10**9)}, "the last from 1 to 64"),
        ({"conv1__kernel": None}, "it has no conv1"),
        ({"conv1__kernel": np.zeros((3, 3, 3, 8), "S4")}, "weights are floating-point"),
        ({"conv_pw_1__kernel": (1, 1, 40000, 40000)}, "conv_pw_1/kernel has the shape"),
        ({"conv1__bias": (40000, 40000)}, "conv1/bias has the shape"),
        ({"other__bias": floats([1])}, "has a other/bias, which mobilenet_v1 has not"),
        ({"conv_pw_1__gamma": None}, "is not in it"),
        ({"conv1__gamma": floats([np.nan] * 8)}, "not a number"),
    ],
)
def test_a_file_that_is_no_mobilenet_is_refused(tmp_path, shapes, changed, message):
    refuse(write(tmp_path / "f", shapes, **changed), message)
