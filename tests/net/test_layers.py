"""Layers, number formats, and the gradient of a convolution's kernel, against TensorFlow's."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net import devices
from net.devices import Precision, precision_of
from net.layers import Layers
from net.run_config import session_config
from net.ssd_net import ssd_network
from tests.builders.configs import voc_config

IMAGES = np.random.RandomState(3).uniform(-128, 128, (2, 20, 24, 3)).astype(np.float32)


def after_steps(layer, images, kernel, steps, training=True):
    """The kernel of a layer after steps of gradient descent, and the layer's output before them."""
    with tf.Graph().as_default(), tf.Session() as session:
        output = getattr(Layers("channels_last", training), layer)(images, 4, 3, "conv1", strides=2, activation=None)
        weights = np.random.RandomState(4).uniform(-1, 1, output.shape.as_list()).astype(np.float32)
        variables = {variable.op.name: variable for variable in tf.trainable_variables()}
        assert variables.keys() == {"conv1/kernel", "conv1/gamma", "conv1/beta"}
        step = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(output * weights))
        session.run(tf.global_variables_initializer())
        variables["conv1/kernel"].load(kernel, session)
        first = session.run(output)
        for _ in range(steps):
            session.run(step)
        return session.run(variables["conv1/kernel"]), first


def test_a_kernel_on_pixels_learns_as_one_on_pixels_in_the_unit_range():
    kernel = np.random.RandomState(5).uniform(-0.3, 0.3, (3, 3, 3, 4)).astype(np.float32)
    wanted, output = after_steps("conv_norm", IMAGES / 127.5, kernel, 5)
    found, same_output = after_steps("pixel_conv_norm", IMAGES, kernel / 127.5, 5)
    np.testing.assert_allclose(same_output, output, atol=1e-4)
    assert np.abs(wanted - kernel).max() > 0.01  # it has learnt something
    np.testing.assert_allclose(found * 127.5, wanted, atol=1e-5)
    other, _ = after_steps("conv_norm", IMAGES, kernel / 127.5, 5)
    assert np.abs(other * 127.5 - kernel).max() > 1  # and would be lost otherwise


def test_detection_takes_pixels_as_they_are():
    kernel = np.random.RandomState(5).uniform(-0.003, 0.003, (3, 3, 3, 4)).astype(np.float32)
    outputs = [after_steps(layer, IMAGES, kernel, 0, False)[1] for layer in ("conv_norm", "pixel_conv_norm")]
    np.testing.assert_array_equal(*outputs)


def test_a_kernel_on_pixels_starts_as_small_as_they_are_large():
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        Layers("channels_last", True).pixel_conv_norm(tf.constant(IMAGES), 32, 3, "conv1")
        session.run(tf.global_variables_initializer())
        (kernel,) = (session.run(v) for v in tf.trainable_variables() if v.op.name == "conv1/kernel")
    glorot = np.sqrt(2 / (9 * (3 + 32)))
    np.testing.assert_allclose(kernel.std() * 127.5, glorot, rtol=0.05)


def test_heads_start_as_in_the_reference_or_small():
    spread = {}
    for small in (False, True):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(1)
            Layers("channels_last", True, small_heads=small).head(tf.zeros([1, 4, 4, 64]), 32, 3, "cls_0")
            session.run(tf.global_variables_initializer())
            kernel, bias = session.run(tf.trainable_variables())
        assert kernel.shape == (3, 3, 64, 32) and not bias.any()
        spread[small] = kernel.std()
    np.testing.assert_allclose(spread[False], np.sqrt(2 / (9 * (64 + 32))), rtol=0.02)
    np.testing.assert_allclose(spread[True], 0.01, rtol=0.02)


@pytest.mark.parametrize(("backbone", "small"), [("vgg16", False), ("mobilenet_v1", True)])
def test_heads_start_small_behind_a_pretrained_backbone_with_batch_norm_alone(backbone, small):
    config = voc_config().replace({"network.backbone": backbone, "network.depth_multiplier": 0.25})
    for pretrained in (False, True):
        with tf.Graph().as_default(), tf.Session() as session:
            ssd_network(tf.zeros([1, 300, 300, 3]), config, "channels_last", training=True, pretrained=pretrained)
            (kernel,) = (v for v in tf.trainable_variables() if v.op.name == "ssd300/multibox_head/cls_5/kernel")
            session.run(kernel.initializer)
            assert (session.run(kernel).std() < 0.011) == (pretrained and small)


# --- the gradient of a kernel by matrix products ---------------------------------------------------------------------


KEEPS_SIZE = {"strides": 1, "dilation_rate": 1, "padding": "same"}


@pytest.fixture
def avx2(monkeypatch):
    monkeypatch.setattr(devices, "processor_features", lambda: frozenset({"avx2"}))


def gradients(training, rows, columns, kernel, options):
    """The gradients of the images and of the kernel of a convolution, and the operation types of the graph."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        random = np.random.RandomState(1)
        images = tf.constant(random.uniform(-1, 1, (2, rows, columns, 5)).astype(np.float32))
        output = Layers("channels_last", training).conv(images, 7, kernel, "conv", activation=None, **options)
        (variable,) = (v for v in tf.trainable_variables() if v.op.name == "conv/kernel")
        weight = random.uniform(-1, 1, output.shape.as_list()).astype(np.float32)
        found = tf.gradients(tf.reduce_sum(output * weight), [images, variable])
        session.run(tf.global_variables_initializer())
        variable.load(random.uniform(-1, 1, variable.shape.as_list()), session)
        return session.run(found), {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (33, 50), (75, 38)])
def test_matrix_products_agree_with_tensorflows_gradient(avx2, rows, columns, kernel):
    found, operations = gradients(True, rows, columns, kernel, KEEPS_SIZE)
    assert "MatMul" in operations and "Conv2DBackpropFilter" not in operations
    wanted, operations = gradients(False, rows, columns, kernel, KEEPS_SIZE)
    assert "Conv2DBackpropFilter" in operations and "MatMul" not in operations
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize(
    ("rows", "kernel", "changed"),
    [
        (40, 3, {"strides": 2}),
        (40, 3, {"dilation_rate": 2}),
        (40, 3, {"padding": "valid"}),
        (40, 1, {}),
        (40, 4, {}),
        (40, (3, 5), {}),
        (31, 3, {}),
    ],
)
def test_other_convolutions_have_tensorflows_gradient(avx2, rows, kernel, changed):
    found, operations = gradients(True, rows, 40, kernel, KEEPS_SIZE | changed)
    assert "Conv2DBackpropFilter" in operations and "MatMul" not in operations
    wanted, _ = gradients(False, rows, 40, kernel, KEEPS_SIZE | changed)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_tensorflows_gradient_is_taken_with_avx512(monkeypatch):
    monkeypatch.setattr(devices, "processor_features", lambda: frozenset({"avx2", "avx512f"}))
    _, operations = gradients(True, 32, 32, 3, KEEPS_SIZE)
    assert "Conv2DBackpropFilter" in operations and "MatMul" not in operations


# --- number formats --------------------------------------------------------------------------------------------------


def test_the_format_is_that_of_the_device(monkeypatch, capsys):
    monkeypatch.setattr(devices, "processor_features", lambda: frozenset({"avx2", "avx512f"}))
    assert precision_of(False) is Precision.FLOAT32 and capsys.readouterr().out == ""
    assert precision_of(True) is Precision.FLOAT32
    assert "this processor has no instructions for bfloat16" in capsys.readouterr().out
    monkeypatch.setattr(devices, "processor_features", lambda: frozenset({"amx_bf16"}))
    assert precision_of(True) is Precision.BFLOAT16 and "bfloat16" in capsys.readouterr().out
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert precision_of(True) is Precision.FLOAT16 and precision_of(False) is Precision.FLOAT32


def network_outputs(config, images, precision):
    """The outputs of a network with random weights, the same in all formats."""
    with tf.Graph().as_default(), tf.Session(config=session_config(precision=precision)) as session:
        tf.set_random_seed(1)
        half = precision is Precision.FLOAT16
        output = ssd_network(tf.constant(images), config, "channels_last", mixed_precision=half)
        session.run(tf.global_variables_initializer())
        return session.run(output)


@pytest.mark.parametrize(("precision", "tolerance"), [(Precision.FLOAT16, 5e-3), (Precision.BFLOAT16, 3e-2)])
def test_half_precision_gives_what_float32_gives_nearly(tiny, precision, tolerance):
    if precision is Precision.BFLOAT16 and precision_of(True) is not Precision.BFLOAT16:
        pytest.skip("this processor has no instructions for bfloat16")
    images = np.random.RandomState(3).uniform(-100, 100, (1, 300, 300, 3)).astype(np.float32)
    outputs = [network_outputs(tiny, images, each) for each in (Precision.FLOAT32, precision)]
    for one, other in zip(*outputs, strict=True):
        assert other.dtype == np.float32 and np.abs(one - other).max() > 0
        np.testing.assert_allclose(other, one, atol=tolerance * np.abs(one).max())
