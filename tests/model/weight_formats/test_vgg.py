"""VGG-16 from the files of each project: its first layer, its reduced fc6 and fc7, and what is refused."""

from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf

from model.weight_formats import recognise, vgg
from tests.builders import weight_files as files
from tests.builders.weight_files import KERAS_SAVED, SMALL, VGG_WRITERS, floats
from tests.model.weight_formats.helpers import (
    MEANS_BGR,
    PICTURE,
    TORCHVISION_DEVIATIONS,
    TORCHVISION_MEANS,
    project_maps,
    refuse,
    source_image,
)


def test_sizes_of_the_real_vgg():
    shapes = {**vgg.VGG16.convolutions(), **vgg.VGG16.full()}
    assert sum(np.prod(shape) + shape[-1] for shape in shapes.values()) == 134_260_544  # without fc8
    assert vgg.VGG16.reduced() == {"fc6": (3, 3, 512, 1024), "fc7": (1, 1, 1024, 1024)}


def test_a_dense_layer_that_sees_no_square_map_is_left_to_the_check_of_the_shapes():
    assert vgg.hwio(np.zeros((8, 12 * 7)), oihw=True, channels=12).shape == (8, 84)
    assert vgg.hwio(np.zeros((12 * 9, 8)), oihw=False, channels=12).shape == (3, 3, 12, 8)


# --- the first layer ---------------------------------------------------------------------------------------------


def test_torchvisions_scaling_is_exact_inside_and_half_a_grey_level_off_at_the_border(weights):
    kernel, bias = weights["conv1_1"]
    folded = vgg.fold(kernel.transpose(2, 3, 1, 0), bias, vgg.TORCHVISION)
    expected = files.conv(source_image("torchvision"), kernel, bias, pad=1)
    image = (PICTURE[..., ::-1] - MEANS_BGR).transpose(2, 0, 1)[np.newaxis].astype(np.float64)
    found = files.conv(image, folded[0].transpose(3, 2, 0, 1), folded[1], pad=1)
    inside = np.s_[:, :, 1:-1, 1:-1]
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-5)
    off = np.abs(MEANS_BGR[::-1] - 255 * TORCHVISION_MEANS) / (255 * TORCHVISION_DEVIATIONS)
    most = np.abs(kernel).sum((0, 2, 3)) @ off  # every position missing
    assert 0 < np.abs(found - expected).max() < most


def test_the_same_input_leaves_the_first_layer_bit_for_bit(weights):
    kernel, bias = weights["conv1_1"]
    kernel = kernel.transpose(2, 3, 1, 0)
    folded = vgg.fold(kernel, bias, vgg.CAFFE_BGR)
    np.testing.assert_array_equal(folded[0], kernel)
    np.testing.assert_array_equal(folded[1], bias)


ORIGINAL_FILTER_BGR = [
    [0.42947057, 0.55037946, 0.4800154],
    [0.3734673, 0.44007453, 0.4085474],
    [-0.06136011, -0.08138704, -0.06514555],
]


@pytest.mark.parametrize("order", ["bgr", "rgb"])
@pytest.mark.parametrize("kind", ["torchvision zip", "ports zip"])
def test_the_original_vggs_first_filter_tells_the_order_of_channels(tmp_path, weights, order, kind):
    kernel, bias = weights["conv1_1"]
    row = floats(ORIGINAL_FILTER_BGR).T if order == "bgr" else floats(ORIGINAL_FILTER_BGR).T[::-1]
    kernel = kernel.copy()
    kernel[0, :, 0, :] = row  # [I, X]
    path = VGG_WRITERS[kind][0](tmp_path / "weights.pth", {**weights, "conv1_1": (kernel, bias)})
    found = recognise.read(str(path), SMALL).variables["vgg_16/conv1/conv1_1/weights"]
    np.testing.assert_array_equal(found[0, :, :, 0], floats(ORIGINAL_FILTER_BGR))


def test_torchvisions_features_only_file_holds_nan_in_its_classifier(tmp_path, weights):
    nothing = {name: tuple(np.full_like(v, np.nan) for v in weights[name]) for name in ("fc6", "fc7")}
    path = files.write_torch_zip(tmp_path / "weights", files.torchvision_arrays({**weights, **nothing}))
    assert len(recognise.read(str(path), SMALL).variables) == 26


def test_batch_normalization_is_not_overlooked(tmp_path, weights):
    arrays = {**files.torchvision_arrays(weights), "features.1.weight": np.ones(4, np.float32)}
    refuse(files.write_torch_zip(tmp_path / "w", arrays), "batch normalization", "features.1")


def test_half_precision_and_doubles_become_float32(tmp_path, weights):
    arrays = {name: array.astype(np.float64) for name, array in files.torchvision_arrays(weights).items()}
    items = {
        name: files.tensor(str(key), array.shape, files.strides_of(array), array.size, kind="DoubleStorage")
        for key, (name, array) in enumerate(arrays.items())
    }
    path = files.write_torch_zip(tmp_path / "w", arrays, files.pickled(items))
    variables = recognise.read(str(path), SMALL).variables
    np.testing.assert_array_equal(variables["vgg_16/conv2/conv2_1/biases"], weights["conv2_1"][1])
    assert {array.dtype for array in variables.values()} == {np.dtype(np.float32)}


# --- Keras -------------------------------------------------------------------------------------------------------


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
    refuse(path, "conv2_1/bias is not in it")


def test_the_optimizers_variables_in_a_keras_model_are_not_weights(tmp_path, weights):
    path = files.write_keras(tmp_path / "w.h5", weights, KERAS_SAVED)
    with h5py.File(path, "a") as file:
        file["optimizer_weights/Adam/block1_conv1/kernel/m:0"] = np.zeros((3, 3, 3, 4))
    assert len(recognise.read(str(path), SMALL).variables) == 30


def test_two_networks_in_a_keras_model_are_refused(tmp_path, weights):
    path = files.write_keras(tmp_path / "w.h5", weights, KERAS_SAVED)
    with h5py.File(path, "a") as file:
        file["other/block1_conv1/kernel:0"] = np.zeros((3, 3, 3, 4))
    refuse(path, "two networks: block1_conv1/kernel")


KERNEL = "block1_conv1/block1_conv1_W_1:0"
UNUSABLE_DATASETS: dict[str, tuple[dict[str, Any], str]] = {
    "a scalar": ({"data": np.float32(1)}, r"conv1_1/kernel has the shape \(\)"),
    "whole numbers": ({"shape": (3, 3, 3, 4), "dtype": "i4"}, "holds int32, and weights are floating-point numbers"),
    "complex numbers": ({"shape": (3, 3, 3, 4), "dtype": "c8"}, "weights are floating-point"),
    "texts": ({"shape": (3, 3, 3, 4), "dtype": "S9"}, "it holds no network that is known here, but block"),
}


@pytest.mark.parametrize("kind", UNUSABLE_DATASETS)
def test_a_dataset_that_is_no_kernel_is_refused(tmp_path, weights, kind):
    options, message = UNUSABLE_DATASETS[kind]
    path = files.write_keras(tmp_path / "w.h5", weights)
    with h5py.File(path, "a") as file:
        del file[KERNEL]
        file.create_dataset(KERNEL, **options)
    refuse(path, message)


# --- TensorFlow --------------------------------------------------------------------------------------------------


def test_a_result_of_the_importer_or_the_references_own_checkpoint_stays_as_it_is(tmp_path, weights):
    files.write_slim(tmp_path / "a.ckpt", files.reduced(weights))
    for name in ("a.ckpt", "a.ckpt.index", ""):
        imported = recognise.read(str(tmp_path / name), SMALL)
        np.testing.assert_array_equal(
            imported.variables["vgg_16/conv1/conv1_1/weights"], weights["conv1_1"][0].transpose(2, 3, 1, 0)
        )


def test_a_v1_checkpoint_is_one_file(tmp_path, weights):
    with tf.Graph().as_default(), tf.Session() as session:
        for name, (kernel, bias) in weights.items():
            scope = f"vgg_16/{name}" if name in ("fc6", "fc7") else f"vgg_16/{name[:5]}/{name}"
            tf.get_variable(f"{scope}/weights", initializer=kernel.transpose(2, 3, 1, 0))
            tf.get_variable(f"{scope}/biases", initializer=bias)
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(write_version=tf.train.SaverDef.V1)
        saver.save(session, str(tmp_path / "vgg_16.ckpt"), write_meta_graph=False, write_state=False)
    assert [path.name for path in tmp_path.iterdir()] == ["vgg_16.ckpt"]
    imported = recognise.read(str(tmp_path / "vgg_16.ckpt"), SMALL)
    assert imported.description == "TF-slim's VGG-16"
    np.testing.assert_array_equal(imported.variables["vgg_16/fc6/biases"], weights["fc6"][1][::4])


def test_a_checkpoint_of_a_detector_needs_no_import(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("ssd300/conv1/conv1_1/kernel", initializer=np.zeros((3, 3, 3, 64), np.float32))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    with pytest.raises(ValueError, match="a whole detector, which needs no import: give it to --checkpoint_path"):
        recognise.read(str(tmp_path / "model.ckpt"))


def test_a_checkpoint_without_fc6_does_not_tell_its_order_of_channels(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("vgg_16/conv1/conv1_1/weights", initializer=np.zeros((3, 3, 3, 64), np.float32))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    with pytest.raises(ValueError, match="no vgg_16/fc6, whose shape distinguishes TF-slim's RGB weights from BGR"):
        recognise.read(str(tmp_path / "model.ckpt"))


SCOPE = "vgg_16/conv1/conv1_1"
UNUSABLE_VARIABLES: dict[str, tuple[dict[str, Any], str]] = {
    "no bias": ({f"{SCOPE}/biases": None}, "conv1_1/bias is not in it"),
    "a kernel of another size": ({f"{SCOPE}/weights": np.zeros((3, 3, 300, 40), np.float32)}, "3, 3, 300, 40"),
    "a scalar": ({f"{SCOPE}/weights": np.float32(1)}, r"conv1_1/kernel has the shape \(\)"),
    "whole numbers": ({f"{SCOPE}/weights": np.zeros((3, 3, 3, 4), np.int32)}, "int32, and weights are floating-point"),
    "texts": ({f"{SCOPE}/biases": np.array([b"a"] * 4)}, "object, and weights are floating-point"),
    "yes and no": ({f"{SCOPE}/weights": np.zeros((3, 3, 3, 4), bool)}, "weights are floating-point"),
    "complex numbers": ({f"{SCOPE}/biases": np.zeros(4, np.complex64)}, "weights are floating-point"),
}


@pytest.mark.parametrize("kind", UNUSABLE_VARIABLES)
def test_a_variable_that_is_no_kernel_is_refused(tmp_path, weights, kind):
    changed, message = UNUSABLE_VARIABLES[kind]
    files.write_slim(tmp_path / "a.ckpt", weights)
    reader = tf.train.load_checkpoint(str(tmp_path / "a.ckpt"))
    variables = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    variables = {name: value for name, value in {**variables, **changed}.items() if value is not None}
    (tmp_path / "b").mkdir()
    recognise.write(str(tmp_path / "b" / "b.ckpt"), variables)
    refuse(tmp_path / "b" / "b.ckpt", message)
