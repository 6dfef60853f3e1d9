"""The gradient of a convolution on the CPU: that of the kernel by matrix products, where they are faster.

oneDNN computes it straight from channels_last maps and, up to AVX2, reads the whole map for every 8 x 8 channels. In
SSD300-VGG16 that takes more than half of a training step.
"""

from __future__ import annotations

import tensorflow.compat.v1 as tf

OPERATION = "SsdConv2D"  # the name that the gradient is registered under
_SMALLEST = 32  # cells; the border is too large a part of smaller maps


def of_kernel(images: tf.Tensor, gradient: tf.Tensor, size: int) -> tf.Tensor:
    """Return the gradient of a kernel of odd size whose convolution keeps the size of the map: float32 [s, s, C, D].

    When maps are written cell after cell, with a border around each, the cells under one place of the kernel are
    those under another one, shifted. So each place takes a product of two matrices, and none a copy of the maps.

    Args:
      images: float32 [B, H, W, C], what was convolved.
      gradient: float32 [B, H, W, D], of what came out.
      size: the kernel's height and width.
    """
    border = size // 2
    _, _, columns, channels = images.shape
    filters = gradient.shape[-1]
    around, behind = [border, border], [0, 2 * border]
    images = tf.reshape(tf.pad(images, [[0, 0], around, around, [0, 0]]), [-1, channels])
    gradient = tf.reshape(tf.pad(gradient, [[0, 0], behind, behind, [0, 0]]), [-1, filters])
    row = columns + 2 * border
    cells = tf.shape(gradient)[0] - 2 * border * (row + 1)  # what comes after them is padding
    starts = [down * row + right for down in range(size) for right in range(size)]
    products = [tf.matmul(images[start : start + cells], gradient[:cells], transpose_a=True) for start in starts]
    return tf.reshape(tf.stack(products), [size, size, channels, filters])


@tf.RegisterGradient(OPERATION)
def _gradients(operation: tf.Operation, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the gradients of the images and of the kernel of a Conv2D on channels_last images."""
    images, kernel = operation.inputs
    settings = {name: operation.get_attr(name) for name in ("strides", "dilations")}
    padding = operation.get_attr("padding").decode()
    of_images = tf.nn.conv2d_backprop_input(tf.shape(images), kernel, gradient, padding=padding, **settings)
    height, width = kernel.shape[:2]
    keeps_size = padding == "SAME" and settings == {"strides": [1] * 4, "dilations": [1] * 4}
    large = min(images.shape[1:3]) >= _SMALLEST and images.dtype == tf.float32
    if keeps_size and large and height == width and height in (3, 5, 7):
        return of_images, of_kernel(images, gradient, height)
    return of_images, tf.nn.conv2d_backprop_filter(images, tf.shape(kernel), gradient, padding=padding, **settings)
