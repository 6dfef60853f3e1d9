"""How the source networks preprocess their images, and how that preprocessing is folded into conv1_1.

This project feeds x = BGR - means, in grey levels from 0 to 255. A source feeds y = (grey level - means) * scales,
in its own channel order. With V = W * scales, convolving y with kernel W and bias b equals convolving x with kernel V
and bias b + sum(V * (this project's means - the source's means)), summed over a filter's positions and channels.

This is exact wherever the filter lies inside the image. Both frameworks pad with 0, and where the means differ, 0
stands for different grey levels in x and y: the outermost pixels of conv1_1 then lack the padded positions' share of
that sum. Torchvision's means differ by at most half a grey level; those of the Caffe models, Keras and TF-slim are
the same as this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class InputConvention(NamedTuple):
    """A source's preprocessing: its channel order, and (grey level - mean) * scale for each channel."""

    description: str
    order: str  # "rgb" or "bgr"
    means_rgb: tuple[float, float, float]
    scales_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)


# The original VGG-16 has 123.68, 116.779, 103.939; this project rounds them.
_VGG_MEANS = (123.68, 116.78, 103.94)
CAFFE_BGR = InputConvention("BGR minus VGG's means", "bgr", _VGG_MEANS)
CAFFE_RGB = InputConvention("RGB minus VGG's means", "rgb", _VGG_MEANS)

# torchvision.transforms.Normalize(mean=(.485, .456, .406), std=(.229, .224, .225)) on RGB / 255
TORCHVISION = InputConvention(
    "RGB / 255, normalized by torchvision's means and deviations",
    "rgb",
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (1 / (0.229 * 255), 1 / (0.224 * 255), 1 / (0.225 * 255)),
)

# Top row of the first conv1_1 filter of the original VGG-16: one line for each position, channels B, G, R.
# The files of Keras, TF-slim and the PyTorch SSD ports hold the same weights, some with the channels reversed.
_VGG_FILTER_BGR = np.array(
    [
        [0.42947057, 0.55037946, 0.4800154],
        [0.3734673, 0.44007453, 0.4085474],
        [-0.06136011, -0.08138704, -0.06514555],
    ]
)
_TOLERANCE = 0.01  # below the difference of 0.05 between blue and red


def original_vgg_order(kernel: np.ndarray) -> str | None:
    """Return the channel order of the original VGG-16's conv1_1 kernel [3, 3, 3, O], or None for another kernel."""
    row = kernel[0, :, :, 0]
    for order, known in (("bgr", _VGG_FILTER_BGR), ("rgb", _VGG_FILTER_BGR[:, ::-1])):
        if np.abs(row - known).max() < _TOLERANCE:
            return order
    return None


def fold(
    kernel: np.ndarray, bias: np.ndarray, inputs: InputConvention, means_rgb: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Adapt a first layer to an input of BGR minus `means_rgb`; the module docstring has the formula.

    Args:
      kernel: [H, W, 3, O], in the channel order of `inputs`.
      bias: [O].
      inputs: the preprocessing that the layer was trained with.
      means_rgb: grey levels, R, G, B.

    Returns:
      kernel and bias, float64; unchanged values where channel order, means and scales are the same.
    """
    reverse = slice(None, None, -1)
    kernel = kernel.astype(np.float64)
    kernel = kernel[:, :, reverse] if inputs.order == "rgb" else kernel
    kernel = kernel * np.array(inputs.scales_rgb[reverse])[:, np.newaxis]
    shift_bgr = np.subtract(means_rgb, inputs.means_rgb)[reverse]
    return kernel, bias + np.einsum("hwio,i->o", kernel, shift_bgr)
