"""The SSD network: images -> offsets [B, K, 4] and class logits [B, K, C].

Layers and variable names are those of the reference (`ssd300/conv1/conv1_1/kernel`, ...), so that its
checkpoints load. The backbones are in `net/backbones.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from net.network.backbones import BACKBONE_FUNCTIONS
from net.network.layers import Layers, float32_storage
from utility.config.feature_maps import FeatureMap, boxes_per_cell, extra_layers, feature_maps
from utility.config.settings import BACKBONES, Config, ExtraLayer


def extra_stages(tensor: tf.Tensor, layers: Layers, stages: Sequence[tuple[int, ExtraLayer]]) -> list[tf.Tensor]:
    """Build conv8, conv9, ... on the backbone's last map: one feature map each, section 2.1."""
    maps = []
    with tf.variable_scope("additional_layers"):
        for number, stage in stages:
            with tf.variable_scope(f"conv{number}"):
                tensor = layers.unit(tensor, layers.wide(stage.bottleneck), 1, f"conv{number}_1")
                padding = stage.padding
                if isinstance(padding, int):
                    tensor, padding = layers.pad(tensor, padding), "valid"
                tensor = layers.unit(
                    tensor,
                    layers.wide(stage.filters),
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
    tensor = tf.cast(tensor, tf.float32)
    _, rows, columns, channels = tensor.shape
    return tf.reshape(tensor, [-1, rows * columns * (channels // size), size])


def ssd_network(
    images: tf.Tensor,
    config: Config,
    data_format: str,
    scope: str = "ssd300",
    training: bool = False,
    mixed_precision: bool = False,
) -> SsdOutput:
    """Build the network of a config.

    Args:
      images: float32 [B, H, W, 3], BGR grey levels minus the channel means.
      config: the configuration; H and W are its network.image_size.
      data_format: "channels_first" or "channels_last": how the layers compute inside.
      scope: variable scope of all variables.
      training: whether batch norm, where the backbone has it, normalizes by the batch's own statistics; and
        whether there will be gradients, which on a CPU are those of `net.kernel_gradient`.
      mixed_precision: whether the layers compute in float16; variables and what comes out stay float32.
    """
    network = config.network
    layers = Layers(data_format, training, BACKBONES[network.backbone].batch_norm, network.depth_multiplier)
    if data_format == "channels_first":
        images = tf.transpose(images, [0, 3, 1, 2])
    if mixed_precision:
        images = tf.cast(images, tf.float16)
    with tf.variable_scope(scope, custom_getter=float32_storage):
        maps = BACKBONE_FUNCTIONS[network.backbone](images, layers, network)
        maps += extra_stages(maps[-1], layers, extra_layers(network))
        _check_grids(maps, layers, feature_maps(network))
        return multibox_head(maps, layers, boxes_per_cell(config.anchors), config.num_classes)


def _check_grids(maps: Sequence[tf.Tensor], layers: Layers, derived: Sequence[FeatureMap]) -> None:
    """Hold the layers against what the config derives: default boxes on another grid would learn nothing."""
    for tensor, feature_map in zip(maps, derived, strict=True):
        grid = tuple(tensor.shape[2:4] if layers.channel_axis == 1 else tensor.shape[1:3])
        if grid != feature_map.grid:
            raise ValueError(f"{tensor.name} is {grid[0]}x{grid[1]}, but the config derives {feature_map.grid}")
