"""Each format of VGG-16 weights: the converted numbers, what a network computes with them, and what is refused."""

import gzip

import h5py
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from model.weight_formats import recognise
from tests.builders import weight_files as files
from tests.builders.weight_files import SMALL, VGG_WRITERS
from tests.model.weight_formats.helpers import project_maps, refuse, source_image


@pytest.mark.parametrize("kind", VGG_WRITERS)
def test_every_number_is_where_it_belongs_and_the_network_computes_the_same(tmp_path, weights, kind):
    write, order = VGG_WRITERS[kind]
    imported = recognise.read(str(write(tmp_path / "weights", weights)), SMALL)
    maps = files.vgg_maps(source_image(order), files.reduced(weights), SMALL)
    with tf.Graph().as_default():
        computed = project_maps(imported.variables)
    for name in ("conv1_1", "conv4_3", "conv5_3", "fc7"):
        inside = np.s_[:, :, 1:-1, 1:-1] if name == "conv1_1" else np.s_[:]
        exact = order != "torchvision" or name == "conv1_1"
        tolerance = (1e-4 if exact else 2e-2) * maps[name].std()
        np.testing.assert_allclose(computed[name][inside], maps[name][inside], rtol=1e-4, atol=tolerance)

    assert imported.config is None
    assert len(imported.variables) == 30
    for name, (kernel, bias) in files.reduced(weights).items():
        scope = f"vgg_16/{name}" if name in ("fc6", "fc7") else f"vgg_16/{name[:5]}/{name}"
        found, found_bias = imported.variables[f"{scope}/weights"], imported.variables[f"{scope}/biases"]
        assert found.dtype == found_bias.dtype == np.float32
        if name == "conv1_1" and order == "torchvision":
            continue
        expected = np.empty_like(found)
        for y, x, i, o in np.ndindex(expected.shape):
            reverse = name == "conv1_1" and order == "rgb"
            expected[y, x, i, o] = kernel[o, 2 - i if reverse else i, y, x]
        np.testing.assert_array_equal(found, expected, err_msg=name)
        np.testing.assert_array_equal(found_bias, bias, err_msg=name)


@pytest.mark.parametrize("kind", ["keras", "torchvision zip"])
def test_without_top_fc6_and_fc7_are_left_out(tmp_path, weights, kind):
    convolutions = {name: layer for name, layer in weights.items() if name not in ("fc6", "fc7")}
    imported = recognise.read(str(VGG_WRITERS[kind][0](tmp_path / "weights", convolutions)), SMALL)
    assert len(imported.variables) == 26
    assert "start at random" in " ".join(imported.notes)


@pytest.mark.parametrize("kind", ["keras", "slim", "torchvision zip", "ports zip", "caffe"])
def test_a_layer_of_another_shape_is_named(tmp_path, weights, kind):
    kernel, bias = weights["conv3_2"]
    path = VGG_WRITERS[kind][0](tmp_path / "weights", {**weights, "conv3_2": (kernel[:, :5], bias)})
    refuse(path, "conv3_2", r"3, 3, 5, 8")


@pytest.mark.parametrize("kind", ["keras", "slim", "torchvision zip", "ports zip", "caffe"])
def test_a_missing_layer_is_named(tmp_path, weights, kind):
    rest = {name: layer for name, layer in weights.items() if name != "conv4_2"}
    refuse(VGG_WRITERS[kind][0](tmp_path / "weights", rest), "conv4_2")


@pytest.mark.parametrize("kind", ["keras", "slim", "caffe"])
def test_vgg19_is_not_taken_for_vgg16(tmp_path, weights, kind, monkeypatch):
    names = {**files.keras_names(), "conv3_4": "block3_conv4"}
    monkeypatch.setattr(files, "keras_names", lambda: names)
    path = VGG_WRITERS[kind][0](tmp_path / "weights", {**weights, "conv3_4": weights["conv3_3"]})
    refuse(path, "block3_conv4" if kind == "keras" else "conv3_4")


@pytest.mark.parametrize("name", ["conv2_1", "fc6"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, weights, name):
    kernel, bias = weights[name]
    kernel = kernel.copy()
    kernel[0, 0, 0, 0] = np.inf
    refuse(VGG_WRITERS["caffe"][0](tmp_path / "w", {**weights, name: (kernel, bias)}), name, "infinite")


@pytest.mark.parametrize("name", ["conv1_1", "conv2_1", "fc6"])
def test_numbers_that_are_infinite_in_float32_are_refused(tmp_path, weights, name):
    kernel, bias = weights[name]
    kernel = kernel.astype(np.float64)
    kernel[0, 0, 0, 0] = 1e308
    refuse(VGG_WRITERS["caffe doubles"][0](tmp_path / "w", {**weights, name: (kernel, bias)}), name, "infinite")


def test_one_of_fc6_and_fc7_alone_is_refused(tmp_path, weights):
    rest = {name: layer for name, layer in weights.items() if name != "fc7"}
    refuse(files.write_keras(tmp_path / "w", rest), "fc7/kernel is not in it")


CONTENTS = {
    "empty": (b"", "it is empty"),
    "text": (b"hello world, these are no weights", "none of the kinds of file"),
    "web page": (b"\n<!DOCTYPE html><html>Sign in</html>", "it is a web page"),
    "gzip": (gzip.compress(b"x"), "compressed .gzip.: unpack it first"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "hdf5 cut off": (b"\x89HDF\r\n\x1a\n" + bytes(100), "as HDF5 it cannot be read"),
    "zip cut off": (b"PK\x03\x04" + bytes(100), "as a file of torch.save it cannot be read: .*BadZipFile"),
    "other pickle": (b"\x80\x02K\x01.", "none of the kinds of file"),
    "pickle of torch cut off": (b"\x80\x02" + files.TORCH_MAGIC, "as a file of torch.save it cannot be read: "),
    "caffe cut off": (b"\n\x20VGG", "as a caffemodel it cannot be read: it is damaged or cut off"),
    "caffe without weights": (b"\n\x03VGG", "no layer with weights"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_foreign_or_damaged_file_is_one_clear_line(tmp_path, kind):
    content, message = CONTENTS[kind]
    (tmp_path / "vgg16.h5").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        recognise.read(str(tmp_path / "vgg16.h5"))
    assert str(caught.value).startswith(f"--source={tmp_path}/vgg16.h5: ")
    assert "\n" not in str(caught.value)


def test_a_file_of_another_network_is_one_line_that_says_what_it_holds(tmp_path):
    with h5py.File(tmp_path / "f", "w") as file:
        file["group/images"] = np.zeros(3)
    refuse(tmp_path / "f", "it holds no network that is known here, but group/images, ...: give a VGG-16 of Keras")


def test_a_wrong_path_says_what_is_there(tmp_path):
    (tmp_path / "vgg16.pth").touch()
    with pytest.raises(FileNotFoundError, match=r"there is no file .*vgg.pth; .* holds vgg16\.pth"):
        recognise.read(str(tmp_path / "vgg.pth"))
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        recognise.read(str(tmp_path / "there" / "vgg.pth"))
