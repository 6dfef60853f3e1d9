"""The network against golden names, shapes and outputs."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net import ssd_net
from net.layers import Layers
from tests.builders.configs import voc_config
from tests.builders.golden import golden_weights


def build(images, data_format="channels_last", **values):
    return ssd_net.ssd_network(images, voc_config(**values), data_format)


def test_variables_are_those_of_the_published_checkpoints(golden):
    wanted = {v["name"]: v["shape"] for v in json.loads((golden / "network.json").read_text())["variables"]}
    with tf.Graph().as_default():
        build(tf.placeholder(tf.float32, [None, 300, 300, 3]))
        found = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
        assert found == wanted
        assert len(tf.trainable_variables()) == 71


def test_outputs_are_golden(golden):
    weights, wanted = golden_weights(golden), np.load(golden / "network.npz")
    images = np.random.RandomState(1).uniform(-120, 130, (2, 300, 300, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        output = build(tf.constant(images[:1]))
        session.run([variable.assign(weights[variable.op.name]) for variable in tf.global_variables()])
        offsets, logits = session.run(output)
    for name, found in (("location", offsets[0]), ("cls", logits[0])):
        largest = np.abs(wanted[name]).max()
        assert np.abs(found[wanted["rows"]] - wanted[name]).max() < 1e-3 * largest
        assert np.abs(found.mean(0) - wanted[f"{name}_mean"]).max() < 1e-4 * largest


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_both_layouts_have_the_same_shapes(data_format):
    with tf.Graph().as_default():
        output = build(tf.placeholder(tf.float32, [None, 300, 300, 3]), data_format)
        assert output.offsets.shape.as_list() == [None, 8732, 4]
        assert output.logits.shape.as_list() == [None, 8732, 21]


def test_caffe_padding_gives_the_same_grids():
    from utility.config.settings import ExtraLayer

    layers = (
        ExtraLayer(256, 512, 3, 2, 1),
        ExtraLayer(128, 256, 3, 2, 1),
        ExtraLayer(128, 256),
        ExtraLayer(128, 256),
    )
    with tf.Graph().as_default():
        output = build(tf.placeholder(tf.float32, [None, 300, 300, 3]), network__extra_layers=layers)
        assert output.offsets.shape.as_list() == [None, 8732, 4]


def test_an_odd_input_size_agrees_with_its_default_boxes():
    from net.default_boxes import default_boxes

    with tf.Graph().as_default():
        output = build(tf.placeholder(tf.float32, [None, 321, 407, 3]), network__image_size=(321, 407))
    boxes = default_boxes(voc_config(network__image_size=(321, 407)))
    assert output.offsets.shape[1] == len(boxes.cyxhw)


def test_l2_normalization_has_length_of_the_scale():
    with tf.Graph().as_default(), tf.Session() as session:
        layers = Layers("channels_last")
        normalized = layers.l2_normalize(tf.constant(np.random.randn(2, 3, 3, 8), tf.float32), 20.0, "scale")
        session.run(tf.global_variables_initializer())
        lengths = np.linalg.norm(session.run(normalized), axis=-1)
    np.testing.assert_allclose(lengths, 20, rtol=1e-5)
