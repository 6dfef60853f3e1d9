"""Drawn scenes: boxes are tight, and hidden objects marked."""

import numpy as np
import pytest
from PIL import Image

from dataset import sample
from dataset.sample import SHAPES
from dataset.sources.annotations import LabelledObject


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_box_is_tight_around_what_is_drawn(monkeypatch, name):
    """One object on black, without light and noise: the box is that of the pixels that are not black."""
    monkeypatch.setattr(sample, "CLASS_NAMES", (name,))
    monkeypatch.setattr(sample, "_background", lambda _, width, height: Image.new("RGB", (width, height)))
    monkeypatch.setattr(sample, "_photograph", lambda image, _: image)
    monkeypatch.setattr(sample, "_lit", lambda sprite, _: _white(sprite))
    for seed in range(8):
        image, (voc_object,) = sample.draw_scene(np.random.default_rng(seed), 1)
        seen = np.asarray(image.convert("L")) > 127
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        expected = (rows[0] + 1, columns[0] + 1, rows[-1] + 1, columns[-1] + 1)
        np.testing.assert_allclose(voc_object.box_yxyx_px, expected, atol=1)


def _white(sprite):
    white = Image.new("RGB", sprite.size, (255, 255, 255))
    white.putalpha(sprite.getchannel("A"))
    return white


def test_hidden_and_cut_off_objects_are_marked():
    visible = np.zeros((300, 400), bool)
    visible[100:200, 50:150] = True
    pixels = 100 * 100
    assert sample._annotate(visible, "car", pixels, pixels) == LabelledObject(
        "car", (101, 51, 200, 150), difficult=False, truncated=False
    )
    assert sample._annotate(visible, "car", 2 * pixels, 2 * pixels).difficult
    assert not sample._annotate(visible, "car", 2 * pixels, 2 * pixels).truncated
    cut = sample._annotate(visible, "car", pixels * 3 // 2, pixels)
    assert (cut.difficult, cut.truncated) == (False, True)
    assert sample._annotate(visible, "car", 3 * pixels, pixels).difficult
    visible[115:] = False
    assert sample._annotate(visible, "car", 1500, 1500).difficult  # 15 of 300 pixels high
