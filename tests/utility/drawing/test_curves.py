"""Curves as pictures: precision over recall, and the course of trainings."""

import math
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from utility.drawing import curves
from utility.drawing.curves import Curve, Run, curve_of, draw_precision_recall, draw_runs
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


def drawn_runs(runs, path, monkeypatch):
    """Draw runs, and return the plots by title."""
    figures = []
    with monkeypatch.context() as patch:
        patch.setattr(curves, "_save", lambda figure, path, dpi: figures.append(figure))
        draw_runs(runs, path)
    return {plot.get_title(): plot for plot in figures[0].axes}


@pytest.mark.parametrize("evaluated", [False, True])
def test_an_empty_plot_of_map_tells_why(evaluated, tmp_path, monkeypatch):
    run = Run("a", {name: curve for name, curve in FULL.items() if evaluated or name != "mAP"})
    plots = drawn_runs([run], tmp_path / "curves.png", monkeypatch)
    texts = {title: [text.get_text() for text in plot.texts] for title, plot in plots.items()}
    told = [] if evaluated else ["no evaluation in the course of the training"]
    assert texts.pop("mAP (VOC07) of the validation records") == told and not any(texts.values())


def test_the_best_is_marked_the_first_of_equal_ones(tmp_path, monkeypatch):
    run = Run("a", {"mAP": curve_of({10: 0.25, 20: 0.5, 30: 0.5})})
    plot = drawn_runs([run], tmp_path / "curves.png", monkeypatch)["mAP (VOC07) of the validation records"]
    assert [text.get_text() for text in plot.get_legend().get_texts()] == ["best: 0.500 at step 20"]
    assert plot.get_lines()[-1].get_xdata() == [20]


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
