"""The source networks' preprocessing, folded into the first layer."""

import numpy as np

from model.weight_formats import inputs
from tests.builders import weight_files as files
from tests.model.weight_formats.helpers import (
    MEANS_BGR,
    PICTURE,
    TORCHVISION_DEVIATIONS,
    TORCHVISION_MEANS,
    source_image,
)


def test_torchvisions_scaling_is_exact_inside_and_half_a_grey_level_off_at_the_border(weights):
    kernel, bias = weights["conv1_1"]
    folded = inputs.fold(kernel.transpose(2, 3, 1, 0), bias, inputs.TORCHVISION, tuple(MEANS_BGR[::-1]))
    expected = files.conv(source_image("torchvision"), kernel, bias, pad=1)
    image = (PICTURE[..., ::-1] - MEANS_BGR).transpose(2, 0, 1)[np.newaxis].astype(np.float64)
    found = files.conv(image, folded[0].transpose(3, 2, 0, 1), folded[1], pad=1)
    inside = np.s_[:, :, 1:-1, 1:-1]
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-5)
    off = np.abs(MEANS_BGR[::-1] - 255 * TORCHVISION_MEANS) / (255 * TORCHVISION_DEVIATIONS)
    most = np.abs(kernel).sum((0, 2, 3)) @ off  # every position missing
    assert 0 < np.abs(found - expected).max() < most


def test_the_same_input_leaves_the_first_layer_bit_for_bit(weights):
    kernel, bias = weights["conv1_1"]
    kernel = kernel.transpose(2, 3, 1, 0)
    folded = inputs.fold(kernel, bias, inputs.CAFFE_BGR, (123.68, 116.78, 103.94))
    np.testing.assert_array_equal(folded[0], kernel)
    np.testing.assert_array_equal(folded[1], bias)
