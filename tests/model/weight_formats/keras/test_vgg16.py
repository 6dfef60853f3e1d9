"""Keras' VGG16: files that Keras itself writes, and what is refused."""

import tracemalloc
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf

from model.weight_formats import recognise
from model.weight_formats.keras import hdf5
from tests.builders import weight_files as files
from tests.builders.weight_files import KERAS_SAVED, SMALL
from tests.model.weight_formats.helpers import PICTURE, project_maps, refuse


@pytest.mark.parametrize("save", ["save_weights", "save"])
def test_what_keras_itself_writes_and_computes(tmp_path, save):
    """The whole VGG16 of Keras, without top, on a picture that Keras itself preprocesses."""
    picture = PICTURE[:32]  # Keras' pooling drops rows that 16 does not divide
    keras = tf2.keras
    keras.utils.set_random_seed(1)
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=picture.shape)
    getattr(model, save)(str(tmp_path / "vgg.h5"), **({"save_format": "h5"} if save == "save" else {}))
    until_conv5_3 = keras.Model(model.input, model.get_layer("block5_conv3").output)
    expected = until_conv5_3(keras.applications.vgg16.preprocess_input(picture[np.newaxis].copy())).numpy()
    variables = recognise.read(str(tmp_path / "vgg.h5")).variables
    with tf.Graph().as_default():
        found = project_maps(variables, picture)["conv5_3"].transpose(0, 2, 3, 1)
    assert expected.std() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.std())


def test_a_keras_layer_without_bias_is_refused(tmp_path, weights):
    path = files.write_keras(tmp_path / "w.h5", weights)
    with h5py.File(path, "a") as file:
        del file["block2_conv1/block2_conv1_b_1:0"]
    refuse(path, "conv2_1 has no bias")


def test_keras_numbers_kept_in_another_file_are_not_read(tmp_path, weights):
    path = files.write_keras(tmp_path / "w.h5", weights)
    (tmp_path / "secret").write_bytes(bytes(4 * 4))
    with h5py.File(path, "a") as file:
        del file["block1_conv1/block1_conv1_b_1:0"]
        file.create_dataset("block1_conv1/b", (4,), "f4", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])
    refuse(path, "block1_conv1/b is kept in another file")


def test_the_optimizers_variables_in_a_keras_model_are_not_weights(tmp_path, weights):
    path = files.write_keras(tmp_path / "w.h5", weights, KERAS_SAVED)
    with h5py.File(path, "a") as file:
        file["optimizer_weights/Adam/block1_conv1/kernel/m:0"] = np.zeros((3, 3, 3, 4))
    assert len(recognise.read(str(path), SMALL).variables) == 30


def test_two_networks_in_a_keras_model_are_refused(tmp_path, weights):
    path = files.write_keras(tmp_path / "w.h5", weights, KERAS_SAVED)
    with h5py.File(path, "a") as file:
        file["other/block1_conv1/kernel:0"] = np.zeros((3, 3, 3, 4))
    refuse(path, "two VGG16 networks")


def test_an_hdf5_file_of_something_else_is_refused(tmp_path):
    with h5py.File(tmp_path / "f", "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(ValueError, match="no VGG16 of Keras: it has no layer block1_conv1"):
        recognise.read(str(tmp_path / "f"))


@pytest.mark.parametrize("length", [100, 5000, 20_000])
def test_an_hdf5_file_cut_off_is_refused(tmp_path, length):
    path = files.write_keras(tmp_path / "f", files.vgg_weights(files.SMALL, 0))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="cannot be read"):
        recognise.read(str(path), files.SMALL)


# --- what stands for more than it has -------------------------------------------------------------------------


def replaced(tmp_path, weights, **options):
    """Write a VGG-16 with another kernel of conv1_1."""
    path = files.write_keras(tmp_path / "w.h5", weights)
    with h5py.File(path, "a") as file:
        del file["block1_conv1/block1_conv1_W_1:0"]
        file.create_dataset("block1_conv1/block1_conv1_W_1:0", **options)
    return path


KERNEL = (3, 3, 3, 4)
UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "6 GB that were never written": ({"shape": (3, 3, 30000, 6000), "dtype": "f4"}, "30000, 6000.* numbers"),
    "30 axes": ({"shape": (10**5,) * 30, "dtype": "f4"}, "conv1_1 has a kernel of"),
    "a chunk of gigabytes": ({"shape": KERNEL, "dtype": "f4", "chunks": (100,) * 4, "maxshape": (None,) * 4}, "chunks"),
    "compressed": ({"shape": KERNEL, "dtype": "f4", "compression": "gzip"}, "compressed .*h5repack"),
    "a scalar": ({"data": np.float32(1)}, r"conv1_1 has a kernel of \(\)"),
    "nothing": ({"data": h5py.Empty("f4")}, "weights are floating-point"),
    "texts": ({"shape": KERNEL, "dtype": h5py.string_dtype()}, "holds object, and weights are floating-point"),
    "short texts": ({"shape": KERNEL, "dtype": "S9"}, "weights are floating-point"),
    "a compound": ({"shape": KERNEL, "dtype": [("a" * 5000, "f4"), ("b", "f8")]}, "weights are floating-point"),
    "references": ({"shape": KERNEL, "dtype": h5py.ref_dtype}, "weights are floating-point"),
    "arrays": ({"shape": KERNEL, "dtype": h5py.vlen_dtype(np.float32)}, "weights are floating-point"),
    "yes and no": ({"shape": KERNEL, "dtype": "?"}, "weights are floating-point"),
    "complex numbers": ({"shape": KERNEL, "dtype": "c8"}, "weights are floating-point"),
    "whole numbers": ({"shape": KERNEL, "dtype": "i4"}, "weights are floating-point"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_dataset_that_is_no_kernel_is_refused_before_it_is_read(tmp_path, weights, kind):
    options, message = UNUSABLE[kind]
    path = replaced(tmp_path, weights, **options)
    tracemalloc.start()
    refuse(path, message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_kernel_in_millions_of_chunks_is_refused(tmp_path):
    shape = (7 * 7 * 512, 4096)
    path = files.write_keras(tmp_path / "w.h5", files.vgg_weights(SMALL, 0))
    with h5py.File(path, "a") as file:
        file.create_dataset("other", shape, "f4", chunks=(1, 1))
    with pytest.raises(ValueError, match=r"other is in chunks of \(1, 1\).*h5repack"):
        hdf5.read(str(path), "other", np.float32)


def test_groups_in_a_circle_and_links_elsewhere_are_not_followed(tmp_path, weights):
    path = files.write_keras(tmp_path / "w.h5", weights)
    with h5py.File(path, "a") as file:
        file["circle"] = file["/"]
        file["block1_conv1/circle"] = file["block1_conv1"]
        file["block1_conv1/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
        file["block1_conv1/nowhere"] = h5py.SoftLink("/block1_conv1/nowhere")
    assert len(recognise.read(str(path), SMALL).variables) == 30


@pytest.mark.parametrize(("levels", "groups"), [(400, 1), (1, 10_001)])
def test_more_groups_than_a_network_has_are_refused(tmp_path, weights, levels, groups):
    path = files.write_keras(tmp_path / "w.h5", weights)
    with h5py.File(path, "a") as file:
        for number in range(groups):
            file.create_group(str(number) + "/d" * levels)
    refuse(path, "more deeply nested groups")
