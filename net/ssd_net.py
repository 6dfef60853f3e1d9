"""The SSD network: images -> offsets [B, K, 4] and class logits [B, K, C].

Layers and variable names are those of the reference (`ssd300/conv1/conv1_1/kernel`, ...), so that its checkpoints can
be loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from net.backbones import BACKBONE_FUNCTIONS
from net.layers import Layers, float32_storage
from utility.config.feature_maps import FeatureMap, boxes_per_cell, extra_layers, feature_maps
from utility.config.settings import BACKBONES, Config, ExtraLayer


class SsdOutput(NamedTuple):
    """The raw output of the network for the K default boxes."""

    offsets: tf.Tensor  # float32 [B, K, 4], as net.matching.encode returns them
    logits: tf.Tensor  # float32 [B, K, C], class 0 is the background


def build_extra_layers(tensor: tf.Tensor, layers: Layers, extra: Sequence[tuple[int, ExtraLayer]]) -> list[tf.Tensor]:
    """Add conv8, conv9, ... to the backbone's last feature map and return the output of each: section 2.1."""
    maps = []
    with tf.variable_scope("additional_layers"):
        for number, layer in extra:
            with tf.variable_scope(f"conv{number}"):
                tensor = layers.extra_conv(tensor, layers.scaled(layer.bottleneck), 1, f"conv{number}_1")
                padding = layer.padding
                if isinstance(padding, int):
                    tensor, padding = layers.pad(tensor, padding), "valid"
                tensor = layers.extra_conv(
                    tensor,
                    layers.scaled(layer.filters),
                    layer.kernel,
                    f"conv{number}_2",
                    strides=layer.stride,
                    padding=padding,
                )
            maps.append(tensor)
    return maps


def multibox_head(maps: Sequence[tf.Tensor], layers: Layers, boxes: Sequence[int], classes: int) -> SsdOutput:
    """Predict offsets and logits by two 3x3 convolutions on each feature map; `boxes` per cell of each: section 2.1."""
    offsets, logits = [], []
    with tf.variable_scope("multibox_head"):
        for index, (tensor, count) in enumerate(zip(maps, boxes, strict=True)):
            loc = layers.head(tensor, count * 4, 3, f"loc_{index}")
            cls = layers.head(tensor, count * classes, 3, f"cls_{index}")
            offsets.append(_per_box(loc, layers, 4))
            logits.append(_per_box(cls, layers, classes))
    return SsdOutput(tf.concat(offsets, axis=1), tf.concat(logits, axis=1))


def _per_box(tensor: tf.Tensor, layers: Layers, size: int) -> tf.Tensor:
    """Reshape a head's output to [B, default boxes, size], boxes in the order row, column, shape within the cell."""
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
    pretrained: bool = False,
) -> SsdOutput:
    """Build the network of a config.

    Args:
      images: float32 [B, H, W, 3], BGR in [0, 255] minus the channel means.
      config: the configuration; H and W are its network.image_size.
      data_format: "channels_first" or "channels_last", used by the layers; `images` is always channels_last.
      scope: variable scope of all variables.
      training: whether batch norm, if the backbone has it, normalizes by the statistics of the batch, and whether
        gradients will be computed (on a CPU by `net.layers`).
      mixed_precision: whether the layers compute in float16; variables and output are float32.
      pretrained: whether the backbone's weights will be loaded; with batch norm the heads then start small.
    """
    network = config.network
    batch_norm = BACKBONES[network.backbone].batch_norm
    layers = Layers(data_format, training, batch_norm, network.depth_multiplier, batch_norm and pretrained)
    if data_format == "channels_first":
        images = tf.transpose(images, [0, 3, 1, 2])
    if mixed_precision:
        images = tf.cast(images, tf.float16)
    with tf.variable_scope(scope, custom_getter=float32_storage):
        maps = BACKBONE_FUNCTIONS[network.backbone](images, layers, network)
        maps += build_extra_layers(maps[-1], layers, extra_layers(network))
        _check_grids(maps, layers, feature_maps(network))
        return multibox_head(maps, layers, boxes_per_cell(config.anchors), config.num_classes)


def _check_grids(maps: Sequence[tf.Tensor], layers: Layers, derived: Sequence[FeatureMap]) -> None:
    """Compare the feature maps with the grids of the default boxes: on another grid no output belongs to its box."""
    for tensor, feature_map in zip(maps, derived, strict=True):
        grid = tuple(tensor.shape[2:4] if layers.channel_axis == 1 else tensor.shape[1:3])
        if grid != feature_map.grid:
            rows, columns = feature_map.grid
            raise ValueError(
                f"{tensor.name} is {grid[0]}x{grid[1]}, but its default boxes are on {rows}x{columns} cells"
            )
