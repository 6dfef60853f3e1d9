"""Layers: what is not tested with the backbones that use them."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net.layers import Layers
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
