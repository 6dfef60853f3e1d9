"""The gradient of a convolution on the CPU: that of the kernel by matrix products, where these are faster.

oneDNN computes the gradient of a kernel on channels_last feature maps directly and, up to AVX2, reads the whole map
for every 8 x 8 channels. In SSD300-VGG16 this takes more than half of a training step; with AVX-512 it does not.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

REGISTERED_NAME = "SsdConv2D"  # for tf.Graph.gradient_override_map
_MIN_SIDE = 32  # cells; the padding is too large a part of smaller feature maps


def backprop_filter(images: tf.Tensor, gradient: tf.Tensor, size: int) -> tf.Tensor:
    """Return the gradient of a kernel of odd size, stride 1 and padding "same": float32 [size, size, C, D].

    The zero-padded feature maps are written as matrices with one row per cell. The cells under one position of the
    kernel are then those under another position, shifted by a constant number of rows. So the gradient at each position
    is the product of two slices of these matrices, and no maps are copied.

    Args:
      images: float32 [B, H, W, C], the input of the convolution.
      gradient: float32 [B, H, W, D], of its output.
      size: height and width of the kernel.
    """
    border = size // 2
    _, _, columns, channels = images.shape
    filters = gradient.shape[-1]
    around, behind = [border, border], [0, 2 * border]
    images = tf.reshape(tf.pad(images, [[0, 0], around, around, [0, 0]]), [-1, channels])
    gradient = tf.reshape(tf.pad(gradient, [[0, 0], behind, behind, [0, 0]]), [-1, filters])
    row = columns + 2 * border
    cells = tf.shape(gradient)[0] - 2 * border * (row + 1)  # the cells after these are padding
    starts = [down * row + right for down in range(size) for right in range(size)]
    products = [tf.matmul(images[start : start + cells], gradient[:cells], transpose_a=True) for start in starts]
    return tf.reshape(tf.stack(products), [size, size, channels, filters])


@tf.RegisterGradient(REGISTERED_NAME)
def _conv2d_gradients(operation: tf.Operation, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the gradients of the images and of the kernel of a Conv2D on channels_last images."""
    images, kernel = operation.inputs
    settings = {name: operation.get_attr(name) for name in ("strides", "dilations")}
    padding = operation.get_attr("padding").decode()
    of_images = tf.nn.conv2d_backprop_input(tf.shape(images), kernel, gradient, padding=padding, **settings)
    height, width = kernel.shape[:2]
    keeps_size = padding == "SAME" and settings == {"strides": [1] * 4, "dilations": [1] * 4}
    large = min(images.shape[1:3]) >= _MIN_SIDE and images.dtype == tf.float32
    if keeps_size and large and height == width and height in (3, 5, 7):
        return of_images, backprop_filter(images, gradient, height)
    return of_images, tf.nn.conv2d_backprop_filter(images, tf.shape(kernel), gradient, padding=padding, **settings)
