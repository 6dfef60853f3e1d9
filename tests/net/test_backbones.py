"""Backbones against Keras' own networks, and batch norm against numpy."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net import backbones, ssd_net
from net.default_boxes import default_boxes
from net.layers import Layers
from net.ssd_model_fn import weight_decay
from tests.builders.configs import voc_config
from utility.config.settings import LossConfig, NetworkConfig

NORMALIZED = ["resnet50", "mobilenet_v1"]


@pytest.mark.parametrize("backbone", backbones.BACKBONE_FUNCTIONS)
@pytest.mark.parametrize(("size", "boxes"), [((300, 300), 8732), ((321, 407), None)])
def test_every_backbone_gives_the_grids_of_the_default_boxes(backbone, size, boxes):
    config = voc_config(network__backbone=backbone, network__image_size=size, network__depth_multiplier=0.25)
    with tf.Graph().as_default():
        output = ssd_net.ssd_network(tf.placeholder(tf.float32, [None, *size, 3]), config, "channels_last")
    count = len(default_boxes(config).cyxhw)
    assert output.offsets.shape.as_list() == [None, count, 4]
    assert output.logits.shape.as_list() == [None, count, 21]
    assert boxes in (None, count)


@pytest.mark.parametrize("backbone", NORMALIZED)
def test_both_data_formats_have_the_same_variables(backbone):
    def variables(data_format):
        config = voc_config(network__backbone=backbone)
        with tf.Graph().as_default():
            ssd_net.ssd_network(tf.placeholder(tf.float32, [2, 300, 300, 3]), config, data_format, training=True)
            return [(v.name, v.shape.as_list(), v.trainable) for v in tf.global_variables()]

    assert variables("channels_first") == variables("channels_last")


@pytest.mark.parametrize(("backbone", "parameters"), [("resnet50", 23_534_592 - 26_560), ("mobilenet_v1", 3_206_976)])
def test_backbones_have_the_parameters_of_keras(backbone, parameters):
    """Those of Keras without top, minus the 26,560 biases of its ResNet, which have no effect before batch norm."""
    with tf.Graph().as_default():
        layers = Layers("channels_last", batch_norm=True)
        backbones.BACKBONE_FUNCTIONS[backbone](tf.placeholder(tf.float32, [1, 64, 64, 3]), layers, NetworkConfig())
        trained = sum(int(np.prod(variable.shape)) for variable in tf.trainable_variables())
    assert trained == parameters


def normalized(values, training, steps=1):
    """Run batch norm `steps` times and return its output and its moving averages."""
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = tf.placeholder(tf.float32, values.shape)
        output = Layers("channels_last", training)._batch_normalize(inputs)
        session.run(tf.global_variables_initializer())
        for _ in range(steps):
            found = session.run(output, {inputs: values})
        return found, session.run(tf.moving_average_variables())


def test_training_normalizes_by_the_batch_and_updates_the_moving_averages():
    values = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 3)).astype(np.float32)
    output, (mean, variance) = normalized(values, training=True, steps=400)
    np.testing.assert_allclose(output.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(output.std((0, 1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(mean, values.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(variance, values.var((0, 1, 2), ddof=1), rtol=1e-4)


def test_prediction_normalizes_by_the_moving_averages_and_does_not_update_them():
    values = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 3)).astype(np.float32)
    output, (mean, variance) = normalized(values, training=False)
    np.testing.assert_allclose(output, values, rtol=1e-4)  # the averages start as 0 and 1
    assert (mean == 0).all()
    assert (variance == 1).all()


def test_a_batch_that_is_not_finite_does_not_update_the_moving_averages():
    values = np.ones((2, 3, 3, 3), np.float32)
    values[0, 0, 0, 0] = np.nan
    _, (mean, variance) = normalized(values, training=True)
    assert (mean == 0).all()
    assert (variance == 1).all()


def test_batch_norm_does_not_decay():
    with tf.Graph().as_default(), tf.Session() as session:
        Layers("channels_last", True).conv_norm(tf.zeros([1, 4, 4, 3]), 5, 3, "layer")
        decay = weight_decay(tf.trainable_variables(), LossConfig(weight_decay=1.0))
        session.run(tf.global_variables_initializer())
        kernel = session.run(tf.trainable_variables()[0])
        assert session.run(decay) == pytest.approx((kernel**2).sum() / 2, rel=1e-5)


# --- Keras' weights ---------------------------------------------------------------------------------------------

# Runs Keras' model in another process, with random weights and batch norm parameters.
KERAS = """
import sys
import numpy as np, tensorflow as tf
name, layer, folder = sys.argv[1:]
rng = np.random.default_rng(5)
shape = (96, 96, 3)
if name == "resnet50":
    model = tf.keras.applications.ResNet50(weights=None, include_top=False, input_shape=shape)
    prepare = tf.keras.applications.resnet50.preprocess_input
else:
    model = tf.keras.applications.MobileNet(weights=None, include_top=False, input_shape=shape, alpha=0.5)
    prepare = tf.keras.applications.mobilenet.preprocess_input
for one in model.layers:
    if isinstance(one, tf.keras.layers.BatchNormalization):
        size = one.gamma.shape
        one.set_weights([rng.uniform(.5, 1.5, size), rng.normal(0, .1, size), rng.normal(0, .1, size),
                         rng.uniform(.5, 1.5, size)])
    elif hasattr(one, "bias") and one.bias is not None:
        one.bias.assign(rng.normal(0, .1, one.bias.shape))
model.save_weights(folder + "/weights.h5")
rgb = rng.integers(0, 256, (1, *shape)).astype(np.float32)
maps = tf.keras.Model(model.input, model.get_layer(layer).output)(prepare(rgb.copy()), training=False)
np.savez(folder + "/expected.npz", rgb=rgb, maps=maps)
"""


@pytest.mark.parametrize(
    ("backbone", "layer", "width"),
    [("resnet50", "conv3_block4_out", 1.0), ("mobilenet_v1", "conv_pw_5_relu", 0.5)],
)
def test_keras_weights_give_the_maps_of_keras(backbone, layer, width, tmp_path, capsys):
    from model.weight_formats import recognise
    from utility.checkpoints.warm_start import Scopes, WarmStart

    subprocess.run([sys.executable, "-c", KERAS, backbone, layer, str(tmp_path)], check=True, capture_output=True)
    imported = recognise.read(str(tmp_path / "weights.h5"))
    assert (imported.backbone, imported.depth_multiplier) == (backbone, width)
    recognise.write(str(tmp_path / "model.ckpt"), imported.variables)
    expected = np.load(tmp_path / "expected.npz")
    image = expected["rgb"][..., ::-1] - np.array([103.94, 116.78, 123.68], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("ssd300"):
            layers = Layers("channels_last", batch_norm=True, depth_multiplier=width)
            maps = backbones.BACKBONE_FUNCTIONS[backbone](tf.constant(image), layers, NetworkConfig())
        WarmStart(str(tmp_path / "model.ckpt"), Scopes(backbone, "ssd300", ()), False).load()
        session.run(tf.global_variables_initializer())
        found = session.run(maps[0])
    # MobileNet pads the input with 0, which is another colour here than in Keras, so the border differs
    inside = slice(None) if backbone == "resnet50" else slice(0, 8)
    scale = expected["maps"].std()
    np.testing.assert_allclose(found[:, inside, inside], expected["maps"][:, inside, inside], atol=2e-3 * scale)
    assert "0 start at random" not in capsys.readouterr().out


def mobilenet_file(path: Path, **changed):
    """Write a small MobileNet as Keras does, with some datasets changed (None: left out)."""
    import h5py

    with tf.Graph().as_default():
        layers = Layers("channels_last", batch_norm=True, depth_multiplier=0.25)
        backbones.mobilenet_v1(tf.placeholder(tf.float32, [1, 64, 64, 3]), layers, NetworkConfig())
        shapes = {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}
    with h5py.File(path, "w") as file:
        for name, shape in {**shapes, **changed}.items():
            if shape is not None:
                layer, kind = name.split("/")
                layer += "" if kind.endswith("kernel") else "_bn"
                file.create_dataset(f"{layer}/{layer}/{kind}:0", shape, "f4", fillvalue=0.5)
    return str(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"conv_pw_3/gamma": None}, "mobilenet_v1's conv_pw_3/gamma is not in it"),
        ({"conv_pw_3/kernel": [1, 1, 8, 8]}, r"its conv_pw_3/kernel has the shape \(1, 1, 8, 8\)"),
        ({"conv_pw_14/kernel": [1, 1, 8, 8]}, "it has a conv_pw_14/kernel, which mobilenet_v1 has not"),
        ({"conv1/kernel": None}, "it has no conv1/kernel"),
    ],
)
def test_another_network_of_keras_is_rejected(changed, message, tmp_path):
    from model.weight_formats import recognise

    with pytest.raises(ValueError, match=message):
        recognise.read(mobilenet_file(tmp_path / "weights.h5", **changed))


def test_values_that_are_not_finite_are_rejected(tmp_path):
    import h5py

    from model.weight_formats import recognise

    path = mobilenet_file(tmp_path / "weights.h5")
    with h5py.File(path, "r+") as file:
        file["conv_pw_2_bn/conv_pw_2_bn/beta:0"][0] = np.nan
    with pytest.raises(ValueError, match="conv_pw_2/beta would hold values that are infinite"):
        recognise.read(path)


def test_a_depth_multiplier_that_keras_does_not_have_is_named(monkeypatch):
    from model.weight_formats import keras_backbones

    monkeypatch.setattr(tf.keras.utils, "get_file", lambda name, url, **options: url)
    assert keras_backbones.download("mobilenet_v1", 0.5).endswith("mobilenet_5_0_224_tf_no_top.h5")
    with pytest.raises(ValueError, match=r"--depth_multiplier=0.3: .* 1.0, 0.75, 0.5, 0.25 only"):
        keras_backbones.download("mobilenet_v1", 0.3)
