"""The pictures that a network was trained on, and how its first layer is made to take this project's instead.

This project's input is x = BGR grey levels minus its means. A source's is y = (grey levels - means) * scales in
its own order of channels. With V = W * scales, the convolution of y with W and b is that of x with V and
b + sum(V * (our means - its means)), sums over a filter's positions and channels.

This is exact wherever the filter lies inside the picture. Along the border both frameworks pad y and x with 0,
and a 0 of x is another colour than a 0 of y where the means differ: there, conv1_1's outermost pixels are off by
the missing positions' part of that sum. With torchvision's means that is half a grey level at most; the
Caffe models, Keras and TF-slim share this project's means, so that nothing is off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class InputConvention(NamedTuple):
    """Order of the channels, and (grey level - mean) * scale for each, in the order RGB."""

    description: str
    order: str  # "rgb" or "bgr"
    means_rgb: tuple[float, float, float]
    scales_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)


# The means of the original VGG-16, 123.68 116.779 103.939, rounded as this project has them.
_VGG_MEANS = (123.68, 116.78, 103.94)
CAFFE_BGR = InputConvention("BGR minus VGG's means", "bgr", _VGG_MEANS)
CAFFE_RGB = InputConvention("RGB minus VGG's means", "rgb", _VGG_MEANS)

# torchvision.transforms.Normalize(mean=(.485, .456, .406), std=(.229, .224, .225)) of RGB / 255.
TORCHVISION = InputConvention(
    "RGB / 255, normalized by torchvision's means and deviations",
    "rgb",
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (1 / (0.229 * 255), 1 / (0.224 * 255), 1 / (0.225 * 255)),
)

# The top row of the first filter of the original VGG-16's conv1_1: one line a position, channels B, G, R.
# Keras', TF-slim's and the SSD ports' files all descend from it, some with the channels turned round.
_VGG_FILTER_BGR = np.array(
    [
        [0.42947057, 0.55037946, 0.4800154],
        [0.3734673, 0.44007453, 0.4085474],
        [-0.06136011, -0.08138704, -0.06514555],
    ]
)
_SAME_FILTER = 0.01  # blue and red differ by 0.05, so this tells them apart


def original_vgg_order(kernel: np.ndarray) -> str | None:
    """Return "bgr" or "rgb" if a conv1_1 kernel [3, 3, 3, O] is the original VGG-16's in that order, else None."""
    row = kernel[0, :, :, 0]
    for order, known in (("bgr", _VGG_FILTER_BGR), ("rgb", _VGG_FILTER_BGR[:, ::-1])):
        if np.abs(row - known).max() < _SAME_FILTER:
            return order
    return None


def fold(
    kernel: np.ndarray, bias: np.ndarray, inputs: InputConvention, means_rgb: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Make a first layer take BGR grey levels minus `means_rgb`; see the module's description.

    Args:
      kernel: [H, W, 3, O], channels as `inputs` has them.
      bias: [O].
      inputs: what the layer was trained on.
      means_rgb: grey levels, R, G, B.

    Returns:
      kernel and bias, float64; with the same means and scales, the same values.
    """
    turned = slice(None, None, -1)
    kernel = kernel.astype(np.float64)
    kernel = kernel[:, :, turned] if inputs.order == "rgb" else kernel
    kernel = kernel * np.array(inputs.scales_rgb[turned])[:, np.newaxis]
    shift_bgr = np.subtract(means_rgb, inputs.means_rgb)[turned]
    return kernel, bias + np.einsum("hwio,i->o", kernel, shift_bgr)
