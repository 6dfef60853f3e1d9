"""Keras' ResNet50 and MobileNet: files that are not of them. What they compute is in tests/net/network."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from model.weight_formats import keras_backbones, recognise
from tests.builders.weight_files import floats
from tests.model.weight_formats.helpers import refuse


@pytest.fixture(scope="module")
def shapes():
    """Layer/kind -> shape of the smallest MobileNet."""
    expected = keras_backbones.shapes_of("mobilenet_v1", 0.25)
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
    network = recognise.read(str(write(tmp_path / "f", shapes)))
    assert network.backbone == "mobilenet_v1"
    assert network.depth_multiplier == 0.25
    assert len(network.variables) == len(shapes)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"conv1__kernel": floats(1)}, r"conv1/kernel has the shape \(\)"),
        ({"conv1__kernel": (3, 3, 3, 0)}, "it has no conv1/kernel"),
        ({"conv1__kernel": (3, 3, 3, 65)}, "the last from 1 to 64"),
        ({"conv1__kernel": None}, "it has no conv1"),
        ({"conv1__kernel": np.zeros((3, 3, 3, 8), "S4")}, "it has no conv1/kernel"),
        ({"conv1__gamma": np.zeros(8, np.int32)}, "conv1/gamma holds int32, and weights are floating-point"),
        ({"conv_pw_1__kernel": (1, 1, 400, 400)}, "conv_pw_1/kernel has the shape"),
        ({"conv1__bias": (400, 400)}, "conv1/bias has the shape"),
        ({"other__bias": floats([1])}, "has a other/bias, which mobilenet_v1 has not"),
        ({"conv_pw_1__gamma": None}, "is not in it"),
        ({"conv1__gamma": floats([np.nan] * 8)}, "conv1/gamma would hold .*not a number"),
    ],
)
def test_a_file_that_is_no_mobilenet_is_refused(tmp_path, shapes, changed, message):
    refuse(write(tmp_path / "f", shapes, **changed), message)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("m.h5", None),
        ("m.keras", r"a \.keras file.*save the model as \.h5"),
        ("m.weights.h5", r"Keras 3.*save the model as \.h5"),
    ],
)
def test_files_of_keras_3_are_read_or_named(shared_cases, name, outcome):
    path = shared_cases / "keras3_weights" / name
    if outcome:
        refuse(path, outcome)
        return
    imported = recognise.read(str(path))
    assert (imported.backbone, imported.depth_multiplier) == ("mobilenet_v1", 0.25)
    with h5py.File(path) as file:
        stored = file["model_weights/conv_dw_7/conv_dw_7/kernel"][()]
    np.testing.assert_array_equal(imported.variables["mobilenet_v1/conv_dw_7/depthwise_kernel"], stored)


def test_what_keras_downloads_is_the_file_that_its_own_vgg16_takes(monkeypatch):
    applications = pytest.importorskip("keras.src.applications.vgg16")
    asked: dict[str, str] = {}

    def get_file(name, url, **options):
        asked.update(options, name=name, url=url)
        return "vgg16.h5"

    monkeypatch.setattr(tf.keras.utils, "get_file", get_file)
    assert keras_backbones.download() == "vgg16.h5"
    assert asked["url"] == applications.WEIGHTS_PATH
    assert asked["name"] == "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    assert asked["file_hash"] in Path(applications.__file__).read_text()
