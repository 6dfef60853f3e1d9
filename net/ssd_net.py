"""The SSD network: images -> offsets [B, K, 4] and class logits [B, K, C].

Layers and variable names are those of the reference (`ssd300/conv1/conv1_1/kernel`, ...), so that its
checkpoints load. A backbone is one function `(images, layers) -> feature maps`, named in `BACKBONE_FUNCTIONS`;
its steps stand in `utility.config.BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from utility.config import Config, ExtraLayer, FeatureMap, NetworkConfig, boxes_per_cell, feature_maps


class Layers:
    """Convolution and pooling in one data format, so that a backbone need not know it."""

    def __init__(self, data_format: str):
        """Take "channels_first" (fast on GPUs) or "channels_last" (all that TensorFlow's CPU kernels can)."""
        self.data_format = data_format
        self.channel_axis = 1 if data_format == "channels_first" else -1

    def conv(self, inputs: tf.Tensor, filters: int, kernel: int, name: str, **options) -> tf.Tensor:
        """Convolve with bias and ReLU, from Glorot's random start; `options` as in tf.layers.conv2d."""
        options = {
            "padding": "same",
            "activation": tf.nn.relu,
            "kernel_initializer": tf.glorot_uniform_initializer(),
        } | options
        return tf.layers.conv2d(
            inputs,
            filters,
            kernel,
            data_format=self.data_format,
            name=name,
            **options,
        )

    def pool(self, inputs: tf.Tensor, size: int, stride: int, name: str) -> tf.Tensor:
        """Take the maximum over size x size windows, padded so that no pixel is lost."""
        return tf.layers.max_pooling2d(inputs, size, stride, padding="same", data_format=self.data_format, name=name)

    def pad(self, inputs: tf.Tensor, pixels: int) -> tf.Tensor:
        """Surround maps with zeros."""
        sides = [[0, 0], [pixels, pixels], [pixels, pixels]]
        return tf.pad(inputs, [*sides[:1], [0, 0], *sides[1:]] if self.channel_axis == 1 else [*sides, [0, 0]])

    def l2_normalize(self, inputs: tf.Tensor, scale: float, name: str) -> tf.Tensor:
        """Scale each cell's features to length 1, times a learned factor a channel: ParseNet, section 3.1."""
        with tf.variable_scope(name):
            channels = inputs.shape[self.channel_axis]
            weights = tf.get_variable("weights", [channels], initializer=tf.constant_initializer(scale))
        shape = [1, channels, 1, 1] if self.channel_axis == 1 else [1, 1, 1, channels]
        return tf.nn.l2_normalize(inputs, axis=self.channel_axis, epsilon=1e-10) * tf.reshape(weights, shape)


def vgg16(images: tf.Tensor, layers: Layers, network: NetworkConfig) -> list[tf.Tensor]:
    """Build VGG16 with fc6 and fc7 as convolutions, and give conv4_3 (normalized) and fc7.

    Pools 1 to 4 halve, the fifth keeps the size; fc6 sees the same context through dilation 6: section 3.1.

    Without a checkpoint the layers start as He et al. (arXiv 1502.01852) have them: Glorot's start halves the
    variance at each of the 15 layers, and little is left for the maps behind. He's keeps it, so the first layer
    must bring grey levels of about +-64 down to the unit variance that both presume.
    """
    tensor = images
    he_normal = tf.variance_scaling_initializer(scale=2.0)
    first = tf.variance_scaling_initializer(scale=2.0 / 64**2)
    for stage, (convs, filters) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], start=1):
        with tf.variable_scope(f"conv{stage}"):
            for number in range(1, convs + 1):
                start = first if stage == number == 1 else he_normal
                tensor = layers.conv(tensor, filters, 3, f"conv{stage}_{number}", kernel_initializer=start)
        if stage == 4:
            conv4_3 = tensor
        tensor = layers.pool(tensor, 3 if stage == 5 else 2, 1 if stage == 5 else 2, f"pool{stage}")
    tensor = layers.conv(tensor, 1024, 3, "fc6", dilation_rate=6, kernel_initializer=he_normal)
    fc7 = layers.conv(tensor, 1024, 1, "fc7", kernel_initializer=he_normal)
    return [layers.l2_normalize(conv4_3, network.l2_norm_scale, "conv4_3_scale"), fc7]


BACKBONE_FUNCTIONS = {"vgg16": vgg16}


def extra_stages(tensor: tf.Tensor, layers: Layers, stages: Sequence[ExtraLayer]) -> list[tf.Tensor]:
    """Build conv8, conv9, ... on the backbone's last map: one feature map each, section 2.1."""
    maps = []
    with tf.variable_scope("additional_layers"):
        for number, stage in enumerate(stages, start=8):
            with tf.variable_scope(f"conv{number}"):
                tensor = layers.conv(tensor, stage.bottleneck, 1, f"conv{number}_1")
                padding = stage.padding
                if isinstance(padding, int):
                    tensor, padding = layers.pad(tensor, padding), "valid"
                tensor = layers.conv(
                    tensor,
                    stage.filters,
                    stage.kernel,
                    f"conv{number}_2",
                    strides=stage.stride,
                    padding=padding,
                )
            maps.append(tensor)
    return maps


def multibox_head(maps: Sequence[tf.Tensor], layers: Layers, boxes: Sequence[int], classes: int) -> SsdOutput:
    """Predict offsets and logits for each default box by a 3x3 convolution on each map: section 2.1."""
    offsets, logits = [], []
    with tf.variable_scope("multibox_head"):
        for index, (tensor, count) in enumerate(zip(maps, boxes, strict=True)):
            loc = layers.conv(tensor, count * 4, 3, f"loc_{index}", activation=None)
            cls = layers.conv(tensor, count * classes, 3, f"cls_{index}", activation=None)
            offsets.append(_by_box(loc, layers, 4))
            logits.append(_by_box(cls, layers, classes))
    return SsdOutput(tf.concat(offsets, axis=1), tf.concat(logits, axis=1))


class SsdOutput(NamedTuple):
    """Raw predictions, float32: offsets [B, K, 4] as `anchor_manipulator.encode` gives, and logits [B, K, C]."""

    offsets: tf.Tensor
    logits: tf.Tensor


def _by_box(tensor: tf.Tensor, layers: Layers, size: int) -> tf.Tensor:
    """Turn a head's map into [B, boxes of the map, size], boxes in the order row, column, box of the cell."""
    if layers.channel_axis == 1:
        tensor = tf.transpose(tensor, [0, 2, 3, 1])
    _, rows, columns, channels = tensor.shape
    return tf.reshape(tensor, [-1, rows * columns * (channels // size), size])


def ssd_network(images: tf.Tensor, config: Config, data_format: str, scope: str = "ssd300") -> SsdOutput:
    """Build the network of a config.

    Args:
      images: float32 [B, H, W, 3], BGR grey levels minus the channel means.
      config: the configuration; H and W are its network.image_size.
      data_format: "channels_first" or "channels_last": how the layers compute inside.
      scope: variable scope of all variables.
    """
    network = config.network
    layers = Layers(data_format)
    if data_format == "channels_first":
        images = tf.transpose(images, [0, 3, 1, 2])
    with tf.variable_scope(scope):
        maps = BACKBONE_FUNCTIONS[network.backbone](images, layers, network)
        maps += extra_stages(maps[-1], layers, network.extra_layers)
        _check_grids(maps, layers, feature_maps(network))
        return multibox_head(maps, layers, boxes_per_cell(config.anchors), config.num_classes)


def _check_grids(maps: Sequence[tf.Tensor], layers: Layers, derived: Sequence[FeatureMap]) -> None:
    """Hold the layers against what the config derives: default boxes on another grid would learn nothing."""
    for tensor, feature_map in zip(maps, derived, strict=True):
        grid = tuple(tensor.shape[2:4] if layers.channel_axis == 1 else tensor.shape[1:3])
        if grid != feature_map.grid:
            raise ValueError(f"{tensor.name} is {grid[0]}x{grid[1]}, but the config derives {feature_map.grid}")
