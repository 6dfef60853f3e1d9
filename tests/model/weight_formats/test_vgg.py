"""VGG-16's shapes, and its reduced fc6 and fc7."""

import numpy as np
import pytest

from model.weight_formats import vgg
from model.weight_formats.vgg import Layer


def test_sizes_of_the_real_vgg():
    shapes = {**vgg.VGG16.convolutions(), **vgg.VGG16.full()}
    assert sum(np.prod(shape) + shape[-1] for shape in shapes.values()) == 134_260_544  # without fc8
    assert vgg.VGG16.reduced() == {"fc6": (3, 3, 512, 1024), "fc7": (1, 1, 1024, 1024)}


def test_a_dense_layer_that_sees_no_square_map_is_refused():
    with pytest.raises(ValueError, match="no square map of 12 channels"):
        vgg.from_oihw(np.zeros((8, 12 * 7)), 12)


def test_reduce_keeps_every_third_position_and_every_fourth_output():
    fc6 = np.arange(7 * 7 * 2 * 8).reshape(7, 7, 2, 8)
    kernel, bias = vgg.reduce("fc6", Layer(fc6, np.arange(8)), 4)
    assert kernel.shape == (3, 3, 2, 2)
    assert kernel[2, 1, 1, 1] == fc6[6, 3, 1, 4]
    assert bias.tolist() == [0, 4]
