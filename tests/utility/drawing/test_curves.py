"""Curves as pictures."""

import time
import warnings

import numpy as np
import pytest
from PIL import Image

from utility.drawing.curves import draw_precision_recall
from utility.drawing.detections import cut_to_length


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


NAMES = (r"$\x$", "$", r"\frac", "a\nb", "nul\0", "x" * 100_000, "\u72ac", "\x1b[2J", "\udcff")


def test_any_name_is_drawn_on_one_line_and_none_is_a_formula(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_precision_recall({name: (0.5, [0.5] * 11) for name in NAMES}, tmp_path / "a.png")
    assert abs(Image.open(tmp_path / "a.png").size[1] - 120 * (2 * 2 + 1)) < 2  # two rows


@pytest.mark.parametrize("classes", [0, 2000])
def test_no_class_and_more_classes_than_a_picture_has_room_for(tmp_path, classes):
    start = time.process_time()
    draw_precision_recall({f"c{n}": (0.5, [0.5] * 11) for n in range(classes)}, tmp_path / "a.png")
    assert time.process_time() - start < 10
    assert Image.open(tmp_path / "a.png").size[1] <= 120 * (2 * 20 + 1)


def test_cut_to_length():
    assert cut_to_length("a\nb\tc", 9) == "a b c"
    assert cut_to_length("abcdef", 6) == "abcdef"
    assert cut_to_length("abcdefg", 6) == "abcde\u2026"
