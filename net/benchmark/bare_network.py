"""What the project's stages are compared with: the network alone, on a batch that stays in memory."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from net.benchmark.turns import Turns
from net.estimator.precision import Precision
from net.estimator.run_config import default_data_format
from net.network.ssd_net import SsdOutput, ssd_network
from utility.config.settings import Config


def bare_network(config: Config, turns: Turns, data_format: str | None, training: bool = False) -> SsdOutput:
    """Build the network on one batch of noise."""
    shape = [turns.batch_size, *config.network.image_size, 3]
    images = tf.get_variable("images", shape, initializer=tf.random_normal_initializer(0, 64), trainable=False)
    half = turns.precision is Precision.FLOAT16
    return ssd_network(images, config, data_format or default_data_format(), training=training, mixed_precision=half)


def forward(config: Config, turns: Turns, data_format: str | None) -> tf.Tensor:
    """Build the forward pass, fetched as one number: TensorFlow drops what only a group of operations waits for."""
    return tf.add_n([tf.reduce_max(part) for part in bare_network(config, turns, data_format)])


def forward_and_backward(config: Config, turns: Turns, data_format: str | None) -> tf.Tensor:
    """Build the forward and the backward pass of a simple loss, fetched as one number.

    The gradient of a mean would not depend on the output, and TensorFlow would drop the heads' forward pass.
    """
    output = bare_network(config, turns, data_format, training=True)
    loss = tf.nn.l2_loss(output.offsets) + tf.nn.l2_loss(output.logits)
    gradients = tf.gradients(loss, tf.trainable_variables())
    return tf.add_n([tf.reduce_max(gradient) for gradient in gradients])


def network_facts(config: Config) -> dict[str, Any]:
    """Count default boxes, trained parameters, and the multiplications of an image's convolutions."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [1, *config.network.image_size, 3])
        output = ssd_network(images, config, "channels_last")
        parameters = sum(variable.shape.num_elements() for variable in tf.trainable_variables())
        multiplications = sum(map(_multiplications, graph.get_operations()))
    return {
        "preset": f"{config.preset}, {config.network.backbone} x {config.network.depth_multiplier:g}",
        "default boxes": int(output.offsets.shape[1]),
        "parameters, millions": round(parameters / 1e6, 2),
        "multiplications, GMAC/image": round(multiplications / 1e9, 2),
    }


def _multiplications(operation: tf.Operation) -> int:
    """Return the multiplications of a convolution, 0 for any other operation."""
    if operation.type not in ("Conv2D", "DepthwiseConv2dNative"):
        return 0
    rows, columns, inputs, _ = operation.inputs[1].shape
    each = rows * columns * (inputs if operation.type == "Conv2D" else 1)
    # a dilated one works on rearranged and padded cells: what counts is the map that comes out
    behind = operation.outputs[0].consumers()[0]
    output_map = (behind if behind.type == "BatchToSpaceND" else operation).outputs[0]
    return output_map.shape.num_elements() * each
