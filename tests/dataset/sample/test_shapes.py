"""Each class of the sample set fills its canvas."""

import numpy as np
import pytest

from dataset.sample import SHAPES, Pen


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_shape_fills_its_canvas(name):
    pen = Pen(200, 150, np.random.default_rng(0))
    SHAPES[name].draw(pen)
    left, top, right, bottom = pen.image.getbbox() or (0, 0, 0, 0)
    assert right - left > 0.7 * 200
    assert bottom - top > 0.7 * 150
