"""Keras' ResNet50 and MobileNet: files that are not of them. What they compute is in tests/net/network."""

import json
import os
import subprocess
import sys
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


# Keras 3, in a process of its own: here its place is taken by Keras 2
KERAS_3 = """
import json, sys, keras, numpy
folder = sys.argv[1]
alone = keras.applications.MobileNet(weights=None, alpha=0.25, include_top=False, input_shape=(32, 32, 3))
tail = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
for kind, model in (("alone", alone), ("nested", keras.Sequential([keras.Input((32, 32, 3)), alone, *tail]))):
    model.save(f"{folder}/{kind}.h5")
    model.save(f"{folder}/{kind}.keras")
    model.save_weights(f"{folder}/{kind}.weights.h5")
numpy.save(f"{folder}/kernel.npy", alone.get_layer("conv_dw_7").get_weights()[0])
numpy.save(f"{folder}/means.npy", alone.get_layer("conv_pw_11_bn").get_weights()[2])
resnet = [layer for layer in keras.applications.ResNet50(weights=None, include_top=False).layers if layer.weights]
kinds = ("Conv2D", "BatchNormalization")
names = {kind: [layer.name for layer in resnet if type(layer).__name__ == kind] for kind in kinds}
json.dump(names, open(f"{folder}/resnet50.json", "w"))
"""


@pytest.fixture(scope="module")
def keras_3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras3")
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    command = [sys.executable, "-c", KERAS_3, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("end", [".h5", ".keras", ".weights.h5"])
@pytest.mark.parametrize("kind", ["alone", "nested"])
def test_a_mobilenet_saved_by_keras_3_is_imported(keras_3, kind, end):
    imported = recognise.read(str(keras_3 / f"{kind}{end}"))
    assert (imported.backbone, imported.depth_multiplier) == ("mobilenet_v1", 0.25)
    found = imported.variables
    np.testing.assert_array_equal(found["mobilenet_v1/conv_dw_7/depthwise_kernel"], np.load(keras_3 / "kernel.npy"))
    np.testing.assert_array_equal(found["mobilenet_v1/conv_pw_11/moving_mean"], np.load(keras_3 / "means.npy"))
    first = recognise.read(str(keras_3 / "alone.h5")).variables
    assert found.keys() == first.keys() and all(np.array_equal(found[key], first[key]) for key in first)


def test_the_order_of_resnet50_is_that_of_keras(keras_3):
    names = keras_backbones._names_by_class({"conv2d": 53, "depthwise_conv2d": 0})
    assert [*names.values()] == [*json.loads((keras_3 / "resnet50.json").read_text()).values()]


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
