"""The course of trainings as a picture."""

import math

import numpy as np
import pytest
from PIL import Image

from utility.drawing.curves import Curve, Run, best_of, curve_of, draw_runs


def test_a_curve_is_in_the_order_of_steps_and_without_what_is_not_finite():
    largest = float(np.finfo(np.float32).max)  # what the training writes for a loss that is not finite
    curve = curve_of({3: 1.0, 1: 4.0, 2: math.nan, 4: math.inf, 5: largest})
    assert (curve.steps.tolist(), curve.values.tolist()) == ([1, 3], [4.0, 1.0])
    assert len(curve_of({}).steps) == 0


def test_a_long_curve_is_thinned_and_keeps_its_last_point():
    curve = curve_of({step: float(step) for step in range(120_000)})
    assert 900 < len(curve.steps) <= 1000 and curve.steps[-1] == 119_999
    np.testing.assert_array_equal(curve.steps, curve.values)
    assert len(curve_of(dict.fromkeys(range(1000), 1.0)).steps) == 1000


def test_the_best_is_the_first_of_equal_ones():
    assert best_of(curve_of({10: 0.25, 20: 0.5, 30: 0.5})) == (20, 0.5)


FULL = {
    name: curve_of({1: 2.0, 10: 1.0}) for name in ("loss", "cross entropy", "location", "l2", "learning rate", "mAP")
}


@pytest.mark.parametrize(
    "runs",
    [
        [Run("a", {})],
        [Run("a", FULL)],
        [Run("a", {"loss": curve_of({1: 2.0})})],
        [Run("a", {"loss": curve_of({5: math.nan}), "mAP": Curve(np.array([]), np.array([]))})],
        [Run("a", {"loss": curve_of({0: 0.0}), "learning rate": curve_of({0: 0.0})})],
        [Run("$\\x$", FULL), Run("b" * 300, {}), *[Run("c", FULL)] * 12],
    ],
    ids=["empty", "full", "one point", "nothing finite", "zeros", "several"],
)
def test_any_runs_are_drawn(tmp_path, runs):
    draw_runs(runs, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size == (1200, 800)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(
    ("curves", "told"),
    [
        ({name: FULL[name] for name in FULL if name != "mAP"}, ["no evaluation in the course of the training"]),
        (FULL, []),
    ],
    ids=["not evaluated", "evaluated"],
)
def test_an_empty_plot_of_map_tells_why(curves, told, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, path, dpi: figures.append(figure))
    draw_runs([Run("a", curves)], tmp_path / "curves.png")
    plots = {plot.get_title(): [text.get_text() for text in plot.texts] for plot in figures[0].axes}
    assert plots.pop("mAP (VOC07) of the validation records") == told and not any(plots.values())


def test_a_picture_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    draw_runs([Run("a", FULL)], tmp_path / "curves.png")
    before = (tmp_path / "curves.png").read_bytes()

    def full_disk(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full_disk)
    with pytest.raises(OSError, match="No space left"):
        draw_runs([Run("b", FULL)], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
