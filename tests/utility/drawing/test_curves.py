"""Curves as pictures."""

import numpy as np
import pytest
from PIL import Image

from utility.drawing.curves import draw_precision_recall


@pytest.mark.parametrize(("classes", "rows"), [(1, 1), (5, 1), (7, 2)])
def test_precision_over_recall_is_drawn_for_each_class(tmp_path, classes, rows):
    """A class with precision 1 throughout fills its plot, one with 0 leaves it white."""
    shaded = []
    for precision in (0.0, 1.0):
        path = tmp_path / f"{precision}.png"
        draw_precision_recall({f"class{n}": (precision, [precision] * 11) for n in range(classes)}, path)
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        shaded.append((pixels.max(-1) - pixels.min(-1) > 20).mean())  # the colour of the area
        assert abs(pixels.shape[0] - 120 * (2.0 * rows + 1)) < 2
    assert shaded[0] < 0.03 and shaded[1] > 0.3
