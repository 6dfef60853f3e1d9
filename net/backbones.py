"""Backbones: each is a function `(images, layers, network) -> feature maps` of the steps 8 and 16, or 8, 16 and 32.

The map of step 32 replaces that of the first extra layer (conv8), which has step 32 as well. So the grids and default
boxes of a preset are the same with every backbone.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from net.layers import Layers
from utility.config.settings import NetworkConfig


def vgg16(images: tf.Tensor, layers: Layers, network: NetworkConfig) -> list[tf.Tensor]:
    """Build VGG16 with fc6 and fc7 as convolutions, and return conv4_3 (L2 normalized) and fc7.

    Pools 1 to 4 have stride 2, pool5 has stride 1; fc6 has dilation 6, which keeps its receptive field: section 3.1.

    Weights are initialized as by He et al. (arXiv 1502.01852), which keeps the variance of the activations; Glorot's
    initialization would halve it at each of the 15 layers. The first layer's weights are divided by 64, because the
    pixel values have a standard deviation of about 64 instead of 1.
    """
    tensor = images
    he_normal = tf.variance_scaling_initializer(scale=2.0)
    he_normal_pixels = tf.variance_scaling_initializer(scale=2.0 / 64**2)
    for stage, (convs, filters) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], start=1):
        with tf.variable_scope(f"conv{stage}"):
            for number in range(1, convs + 1):
                initializer = he_normal_pixels if stage == number == 1 else he_normal
                name = f"conv{stage}_{number}"
                tensor = layers.conv(tensor, layers.scaled(filters), 3, name, kernel_initializer=initializer)
        if stage == 4:
            conv4_3 = tensor
        tensor = layers.pool(tensor, 3 if stage == 5 else 2, 1 if stage == 5 else 2, f"pool{stage}")
    tensor = layers.conv(tensor, layers.scaled(1024), 3, "fc6", dilation_rate=6, kernel_initializer=he_normal)
    fc7 = layers.conv(tensor, layers.scaled(1024), 1, "fc7", kernel_initializer=he_normal)
    return [layers.l2_normalize(conv4_3, network.l2_norm_scale, "conv4_3_scale"), fc7]


def resnet50(images: tf.Tensor, layers: Layers, network: NetworkConfig) -> list[tf.Tensor]:
    """Build ResNet-50 (arXiv 1512.03385, table 1) and return the outputs of stages 3 and 5.

    Layers and names are those of Keras' ResNet50, so that its weights can be loaded: the first 1x1 convolution of a
    stage has the stride. Stage 5 has stride 1 and dilation 2, as with `use_dilation_conv5` in Caffe's script.
    """
    del network
    tensor = layers.pixel_conv_norm(layers.pad(images, 3), layers.scaled(64), 7, "conv1", strides=2, padding="valid")
    tensor = layers.pool(
        layers.pad(tensor, 1), 3, 2, "pool1", padding="valid"
    )  # padding by 0 does not change a maximum after ReLU
    maps = []
    for stage, (blocks, filters, stride, dilation) in enumerate(
        [(3, 64, 1, 1), (4, 128, 2, 1), (6, 256, 2, 1), (3, 512, 1, 2)], start=2
    ):
        for block in range(1, blocks + 1):
            name = f"conv{stage}_block{block}"
            tensor = _bottleneck(tensor, layers, layers.scaled(filters), name, stride if block == 1 else 1, dilation)
        maps.append(tensor)
    return [maps[1], maps[3]]


def _bottleneck(inputs: tf.Tensor, layers: Layers, filters: int, name: str, stride: int, dilation: int) -> tf.Tensor:
    """Add a residual of 1x1, 3x3 and 1x1 convolutions; the shortcut of a stage's first block is a 1x1 convolution."""
    shortcut = inputs
    if name.endswith("block1"):
        shortcut = layers.conv_norm(inputs, 4 * filters, 1, f"{name}_0", strides=stride, activation=None)
    tensor = layers.conv_norm(inputs, filters, 1, f"{name}_1", strides=stride)
    tensor = layers.conv_norm(tensor, filters, 3, f"{name}_2", dilation_rate=dilation)
    return tf.nn.relu(shortcut + layers.conv_norm(tensor, 4 * filters, 1, f"{name}_3", activation=None))


def mobilenet_v1(images: tf.Tensor, layers: Layers, network: NetworkConfig) -> list[tf.Tensor]:
    """Build MobileNet v1 (arXiv 1704.04861, table 1) and return the outputs of blocks 5, 11 and 13.

    Layers and names are those of Keras' MobileNet, so that its weights can be loaded.
    """
    del network
    tensor = layers.pixel_conv_norm(images, layers.scaled(32), 3, "conv1", strides=2, activation=tf.nn.relu6)
    pointwise_filters = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    maps = []
    for number, filters in enumerate(pointwise_filters, start=1):
        stride = 2 if number in (2, 4, 6, 12) else 1
        tensor = layers.depthwise_norm(tensor, 3, f"conv_dw_{number}", strides=stride, activation=tf.nn.relu6)
        tensor = layers.conv_norm(tensor, layers.scaled(filters), 1, f"conv_pw_{number}", activation=tf.nn.relu6)
        maps.append(tensor)
    return [maps[4], maps[10], maps[12]]


# Their steps, weights and use of batch norm are in utility.config.settings.BACKBONES.
BACKBONE_FUNCTIONS = {"vgg16": vgg16, "resnet50": resnet50, "mobilenet_v1": mobilenet_v1}
