"""Each format of VGG-16 weights: the converted numbers, and what a network computes with them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf

from model.weight_formats import inputs, recognise, vgg
from model.weight_formats.vgg import Layer
from tests.builders import weight_files as files
from tests.builders.weight_files import SMALL, floats

MEANS_BGR = floats([103.94, 116.78, 123.68])
PICTURE = np.random.default_rng(5).integers(0, 256, (40, 48, 3)).astype(np.float32)  # RGB grey levels

# torchvision.transforms.Normalize of its models
TORCHVISION_MEANS, TORCHVISION_DEVIATIONS = floats([0.485, 0.456, 0.406]), floats([0.229, 0.224, 0.225])


def write_slim(path: Path, weights: files.Weights) -> Path:
    """Write TF-slim's checkpoint: HWIO, RGB, fc6 as a convolution."""
    variables: dict[str, Any] = {}
    for name, (kernel, bias) in weights.items():
        scope = f"vgg_16/{name}" if name in ("fc6", "fc7") else f"vgg_16/{name[:5]}/{name}"
        variables[f"{scope}/weights"] = kernel.transpose(2, 3, 1, 0)
        variables[f"{scope}/biases"] = bias
    variables["global_step"] = np.int64(3)
    save(path, variables)
    return path


def save(path, variables) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        made = [tf.get_variable(name, initializer=value) for name, value in variables.items()]
        session.run(tf.global_variables_initializer())
        tf.train.Saver(made).save(session, str(path), write_meta_graph=False)


def caffe(path, weights, **options):
    return files.write_caffe(path, files.caffe_blobs(weights), **options)


KERAS_SAVED = "model_weights/{layer}/{layer}/kernel:0 model_weights/{layer}/{layer}/bias:0"
WRITERS: dict[str, tuple[Callable[..., Path], str]] = {
    "keras": (files.write_keras, "bgr"),
    "keras model": (partial(files.write_keras, prefix=KERAS_SAVED), "bgr"),
    "slim": (write_slim, "rgb"),
    "torchvision zip": (lambda p, w: files.write_torch_zip(p, files.torchvision_arrays(w)), "torchvision"),
    "torchvision legacy": (lambda p, w: files.write_torch_legacy(p, files.torchvision_arrays(w)), "torchvision"),
    "ports zip": (lambda p, w: files.write_torch_zip(p, files.ports_arrays(files.reduced(w))), "rgb"),
    "ports legacy": (lambda p, w: files.write_torch_legacy(p, files.ports_arrays(files.reduced(w))), "rgb"),
    "caffe": (caffe, "bgr"),
    "caffe V1": (partial(caffe, old=True), "bgr"),
    "caffe doubles": (partial(caffe, double=True), "bgr"),
    "caffe reduced": (lambda p, w: files.write_caffe(p, files.reduced(w)), "bgr"),
}


@pytest.fixture(scope="module")
def weights():
    return files.vgg_weights(SMALL, seed=1)


def source_image(order: str) -> np.ndarray:
    """Preprocess the picture as a source's own code does, to [1, 3, Y, X]."""
    if order == "torchvision":
        image = (PICTURE / 255 - TORCHVISION_MEANS) / TORCHVISION_DEVIATIONS
    else:
        image = PICTURE - MEANS_BGR[::-1]
    return (image[..., ::-1] if order == "bgr" else image).transpose(2, 0, 1)[np.newaxis]


def our_maps(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute with imported variables what the network does with this project's input; maps are [1, C, Y, X]."""
    maps = tf.constant((PICTURE[..., ::-1] - MEANS_BGR)[np.newaxis])
    kept = {}
    for stage, convs in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, convs + 1):
            name = f"conv{stage}_{number}"
            maps = kept[name] = our_conv(maps, variables, f"vgg_16/conv{stage}/{name}")
        size, stride = (3, 1) if stage == 5 else (2, 2)
        maps = tf.nn.max_pool2d(maps, size, stride, "SAME")
    if "vgg_16/fc6/weights" in variables:
        kept["fc7"] = our_conv(our_conv(maps, variables, "vgg_16/fc6", 6), variables, "vgg_16/fc7")
    with tf.Session() as session:
        found = session.run(kept)
    return {name: values.transpose(0, 3, 1, 2) for name, values in found.items()}


def our_conv(maps, variables, scope, dilation=1):
    kernel, bias = (tf.constant(variables[f"{scope}/{part}"]) for part in ("weights", "biases"))
    return tf.nn.relu(tf.nn.conv2d(maps, kernel, 1, "SAME", dilations=dilation) + bias)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_network_computes_the_same_in_the_files_layout_and_in_ours(tmp_path, weights, kind):
    write, order = WRITERS[kind]
    imported = recognise.read(str(write(tmp_path / "weights", weights)), SMALL)
    expected = files.vgg_maps(source_image(order), files.reduced(weights), SMALL)
    with tf.Graph().as_default():
        found = our_maps(imported.variables)
    for name in ("conv1_1", "conv4_3", "conv5_3", "fc7"):
        inside = np.s_[:, :, 1:-1, 1:-1] if name == "conv1_1" else np.s_[:]
        exact = order != "torchvision" or name == "conv1_1"
        tolerance = (1e-4 if exact else 2e-2) * expected[name].std()
        np.testing.assert_allclose(found[name][inside], expected[name][inside], rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_number_is_where_it_belongs(tmp_path, weights, kind):
    write, order = WRITERS[kind]
    imported = recognise.read(str(write(tmp_path / "weights", weights)), SMALL)
    assert imported.config is None
    assert len(imported.variables) == 30
    for name, (kernel, bias) in files.reduced(weights).items():
        scope = f"vgg_16/{name}" if name in ("fc6", "fc7") else f"vgg_16/{name[:5]}/{name}"
        ours, our_bias = imported.variables[f"{scope}/weights"], imported.variables[f"{scope}/biases"]
        assert ours.dtype == our_bias.dtype == np.float32
        if name == "conv1_1" and order == "torchvision":
            continue
        expected = np.empty_like(ours)
        for y, x, i, o in np.ndindex(expected.shape):
            turned = name == "conv1_1" and order == "rgb"
            expected[y, x, i, o] = kernel[o, 2 - i if turned else i, y, x]
        np.testing.assert_array_equal(ours, expected, err_msg=name)
        np.testing.assert_array_equal(our_bias, bias, err_msg=name)


@pytest.mark.parametrize("save", ["save_weights", "save"])
def test_what_keras_itself_writes_and_computes(tmp_path, save, monkeypatch):
    """The whole VGG16 of Keras, without top, on a picture that Keras itself preprocesses."""
    monkeypatch.setitem(globals(), "PICTURE", PICTURE[:32])  # Keras' pooling drops what 16 does not divide
    keras = tf2.keras
    keras.utils.set_random_seed(1)
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=PICTURE.shape)
    getattr(model, save)(str(tmp_path / "vgg.h5"), **({"save_format": "h5"} if save == "save" else {}))
    until_conv5_3 = keras.Model(model.input, model.get_layer("block5_conv3").output)
    expected = until_conv5_3(keras.applications.vgg16.preprocess_input(PICTURE[np.newaxis].copy())).numpy()
    variables = recognise.read(str(tmp_path / "vgg.h5")).variables
    with tf.Graph().as_default():
        found = our_maps(variables)["conv5_3"].transpose(0, 2, 3, 1)
    assert expected.std() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.std())


def test_torchvisions_scaling_is_exact_inside_and_half_a_grey_level_off_at_the_border(weights):
    kernel, bias = weights["conv1_1"]
    folded = inputs.fold(kernel.transpose(2, 3, 1, 0), bias, inputs.TORCHVISION, tuple(MEANS_BGR[::-1]))
    expected = files.conv(source_image("torchvision"), kernel, bias, pad=1)
    ours = (PICTURE[..., ::-1] - MEANS_BGR).transpose(2, 0, 1)[np.newaxis].astype(np.float64)
    found = files.conv(ours, folded[0].transpose(3, 2, 0, 1), folded[1], pad=1)
    inside = np.s_[:, :, 1:-1, 1:-1]
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-5)
    off = np.abs(MEANS_BGR[::-1] - 255 * TORCHVISION_MEANS) / (255 * TORCHVISION_DEVIATIONS)
    most = np.abs(kernel).sum((0, 2, 3)) @ off  # every position missing
    assert 0 < np.abs(found - expected).max() < most


def test_the_same_input_leaves_the_first_layer_bit_for_bit(weights):
    kernel, bias = weights["conv1_1"]
    kernel = kernel.transpose(2, 3, 1, 0)
    folded = inputs.fold(kernel, bias, inputs.CAFFE_BGR, (123.68, 116.78, 103.94))
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
    path = WRITERS[kind][0](tmp_path / "weights.pth", {**weights, "conv1_1": (kernel, bias)})
    found = recognise.read(str(path), SMALL).variables["vgg_16/conv1/conv1_1/weights"]
    np.testing.assert_array_equal(found[0, :, :, 0], floats(ORIGINAL_FILTER_BGR))


@pytest.mark.parametrize("kind", ["keras", "torchvision zip"])
def test_without_top_fc6_and_fc7_are_left_out(tmp_path, weights, kind):
    convolutions = {name: layer for name, layer in weights.items() if name not in ("fc6", "fc7")}
    imported = recognise.read(str(WRITERS[kind][0](tmp_path / "weights", convolutions)), SMALL)
    assert len(imported.variables) == 26
    assert "start at random" in " ".join(imported.notes)


def test_torchvisions_features_only_file_holds_nan_in_its_classifier(tmp_path, weights):
    nothing = {name: tuple(np.full_like(v, np.nan) for v in weights[name]) for name in ("fc6", "fc7")}
    path = files.write_torch_zip(tmp_path / "weights", files.torchvision_arrays({**weights, **nothing}))
    assert len(recognise.read(str(path), SMALL).variables) == 26


def test_a_result_of_the_importer_or_the_references_own_checkpoint_stays_as_it_is(tmp_path, weights):
    write_slim(tmp_path / "a.ckpt", files.reduced(weights))
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


def test_sizes_of_the_real_vgg():
    shapes = {**vgg.VGG16.convolutions(), **vgg.VGG16.full()}
    assert sum(np.prod(shape) + shape[-1] for shape in shapes.values()) == 134_260_544  # without fc8
    assert vgg.VGG16.reduced() == {"fc6": (3, 3, 512, 1024), "fc7": (1, 1, 1024, 1024)}


# --- what is refused ------------------------------------------------------------------------------------------


def broken(weights, **layers):
    return {**weights, **layers}


def refuse(path, *words):
    with pytest.raises(ValueError, match="(?i)" + ".*".join(words)) as caught:
        recognise.read(str(path), SMALL)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["keras", "slim", "torchvision zip", "ports zip", "caffe"])
def test_a_layer_of_another_shape_is_named(tmp_path, weights, kind):
    kernel, bias = weights["conv3_2"]
    path = WRITERS[kind][0](tmp_path / "weights", broken(weights, conv3_2=(kernel[:, :5], bias)))
    refuse(path, "conv3_2", r"3, 3, 5, 8")


@pytest.mark.parametrize("kind", ["keras", "slim", "torchvision zip", "ports zip", "caffe"])
def test_a_missing_layer_is_named(tmp_path, weights, kind):
    rest = {name: layer for name, layer in weights.items() if name != "conv4_2"}
    refuse(WRITERS[kind][0](tmp_path / "weights", rest), "conv4_2")


@pytest.mark.parametrize("kind", ["keras", "slim", "caffe"])
def test_vgg19_is_not_taken_for_vgg16(tmp_path, weights, kind, monkeypatch):
    names = {**files.keras_names(), "conv3_4": "block3_conv4"}
    monkeypatch.setattr(files, "keras_names", lambda: names)
    path = WRITERS[kind][0](tmp_path / "weights", {**weights, "conv3_4": weights["conv3_3"]})
    refuse(path, "conv3_4")


def test_batch_normalization_is_not_overlooked(tmp_path, weights):
    arrays = {**files.torchvision_arrays(weights), "features.1.weight": np.ones(4, np.float32)}
    refuse(files.write_torch_zip(tmp_path / "w", arrays), "batch normalization", "features.1")


@pytest.mark.parametrize("name", ["conv2_1", "fc6"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, weights, name):
    kernel, bias = weights[name]
    kernel = kernel.copy()
    kernel[0, 0, 0, 0] = np.inf
    refuse(caffe(tmp_path / "w", broken(weights, **{name: (kernel, bias)})), name, "infinite")


def test_one_of_fc6_and_fc7_alone_is_refused(tmp_path, weights):
    rest = {name: layer for name, layer in weights.items() if name != "fc7"}
    refuse(files.write_keras(tmp_path / "w", rest), "only one of fc6 and fc7")


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


def test_a_dense_layer_that_sees_no_square_map_is_refused():
    with pytest.raises(ValueError, match="no square map of 12 channels"):
        vgg.from_oihw(np.zeros((8, 12 * 7)), 12)


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


def test_reduce_keeps_every_third_position_and_every_fourth_output():
    fc6 = np.arange(7 * 7 * 2 * 8).reshape(7, 7, 2, 8)
    kernel, bias = vgg.reduce("fc6", Layer(fc6, np.arange(8)), 4)
    assert kernel.shape == (3, 3, 2, 2)
    assert kernel[2, 1, 1, 1] == fc6[6, 3, 1, 4]
    assert bias.tolist() == [0, 4]
