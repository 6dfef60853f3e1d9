"""The names and shapes of the network's variables, by which published checkpoints load."""

import hashlib
import json
import math

import pytest
import tensorflow.compat.v1 as tf

from net.ssd_net import ssd_network
from utility.config.presets import preset

CLASSES = {"ssd300_voc": 20, "ssd512_voc": 20, "ssd300_coco": 80}


def variables(name, backbone):
    """The shapes of the variables of a network in training, by name."""
    class_names = tuple(f"class{number}" for number in range(1, CLASSES[name] + 1))
    config = preset(name).replace({"class_names": class_names, "network.backbone": backbone})
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float32, [None, *config.network.image_size, 3])
        ssd_network(images, config, "channels_last", training=True)
        return {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}


def summary(shapes):
    """What golden/variables.json holds of a network."""
    lines = "".join(f"{name}:{','.join(map(str, shape))}\n" for name, shape in sorted(shapes.items()))
    values = sum(math.prod(shape) for shape in shapes.values())
    return {"variables": len(shapes), "values": values, "sha256": hashlib.sha256(lines.encode()).hexdigest()}


@pytest.mark.parametrize("backbone", ["vgg16", "resnet50", "mobilenet_v1"])
@pytest.mark.parametrize("name", CLASSES)
def test_variables_have_the_names_and_shapes_of_published_checkpoints(golden, name, backbone):
    shapes = variables(name, backbone)
    listed = "\n".join(f"{one} {shape}" for one, shape in sorted(shapes.items()))
    assert summary(shapes) == json.loads((golden / "variables.json").read_text())[f"{name} {backbone}"], listed
