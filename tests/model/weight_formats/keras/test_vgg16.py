"""Keras' VGG16: files that Keras itself writes, and what is refused."""

import h5py
import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf

from model.weight_formats import recognise
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
