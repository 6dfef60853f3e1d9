"""Curves as PNG files, drawn with matplotlib: precision over recall, and the course of trainings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utility.drawing.detections import cut_to_length
from utility.files.text_files import whole_file

_COLUMNS = 5
_MOST_PLOTS = 100  # COCO has 80 classes; more than 1300 would exceed matplotlib's largest picture
_PLOT_INCHES = (2.2, 2.0)  # width, height of the plot of one class
_MARGIN_INCHES = 0.5  # around the plots


def draw_precision_recall(curves: Mapping[str, tuple[float, Sequence[float]]], path: str | Path) -> None:
    """Write a PNG with a small precision-recall plot per class.

    Of more than 100 classes the first 100 are drawn, and the picture says so. Without a class it is empty.

    Args:
      curves: class name -> average precision, and the 11 interpolated precisions: the highest precision at a recall
        of at least 0, .1, ..., 1. All in [0, 1].
      path: of the PNG; its folder must exist.
    """
    drawn = dict(islice(curves.items(), _MOST_PLOTS))
    columns = min(_COLUMNS, max(len(drawn), 1))
    rows = max(math.ceil(len(drawn) / columns), 1)
    width, height = columns * _PLOT_INCHES[0] + 2 * _MARGIN_INCHES, rows * _PLOT_INCHES[1] + 2 * _MARGIN_INCHES
    left, bottom = _MARGIN_INCHES / width, _MARGIN_INCHES / height
    room = {"wspace": 0.15, "hspace": 0.3, "left": left, "bottom": bottom, "right": 1 - left, "top": 1 - bottom}
    figure, plots = _figure((width, height), rows, columns, room)
    recall = [point / 10 for point in range(11)]
    for plot, (name, (ap, precision)) in zip(plots, drawn.items(), strict=False):
        plot.step(recall, precision, where="pre")
        plot.fill_between(recall, precision, step="pre", alpha=0.2)
        plot.set_title(f"{cut_to_length(name, 24)} {ap:.3f}", fontsize=9, parse_math=False)
        plot.tick_params(labelsize=8)
        plot.set(xlim=(0, 1), ylim=(0, 1.05), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        plot.label_outer()  # shared axes would look the same, but every plot would set those of all others
    for plot in plots[len(drawn) :]:
        plot.set_axis_off()
    left_out = f"; the first {len(drawn)} of {len(curves)} classes" if len(drawn) < len(curves) else ""
    figure.supxlabel(f"recall{left_out}", fontsize=9, y=0.1 / height)
    figure.supylabel("precision", fontsize=9, x=0.08 / width)
    _save(figure, path, dpi=120)


LOSSES = ("loss", "cross entropy", "location", "l2")
ACCURACY, RATE, MEAN_AP = "accuracy", "learning rate", "mAP"

_MOST_POINTS = 1000  # of a line; the picture has fewer pixels for it
_LARGEST = 1e30  # a loss above is TensorFlow's largest number, in place of one that is not finite
_STYLES = ("-", "--", ":", "-.")  # of the losses, where the colour tells the run


class Curve(NamedTuple):
    """Values at steps in ascending order, int64 [n] and float64 [n]."""

    steps: np.ndarray
    values: np.ndarray


class Run(NamedTuple):
    """What is drawn of a training: curves by name (LOSSES, ACCURACY, RATE, MEAN_AP), those that there are."""

    name: str
    curves: Mapping[str, Curve]


def curve_of(values: Mapping[int, float]) -> Curve:
    """Return the finite ones of values by step, thinned to every n-th so that about 1000 remain, the last included."""
    points = [(step, value) for step, value in sorted(values.items()) if abs(value) < _LARGEST]  # False for a NaN
    stride = max(math.ceil(len(points) / _MOST_POINTS), 1)
    kept = points[::-1][::stride][::-1]
    return Curve(np.array([s for s, _ in kept], np.int64), np.array([v for _, v in kept], np.float64))


def draw_runs(runs: Sequence[Run], path: str | Path) -> None:
    """Write a PNG with the curves of one run or several; a plot without any is left empty, that of mAP says why.

    Args:
      runs: at least one. Of several, each has a colour in all plots.
      path: of the PNG; its folder must exist.
    """
    room = {"left": 0.06, "right": 0.98, "bottom": 0.07, "top": 0.91, "wspace": 0.14, "hspace": 0.24}
    figure, (losses, accuracy, rate, mean_ap) = _figure((12, 8), 2, 2, room)
    names, several = [cut_to_length(run.name, 48) for run in runs], len(runs) > 1
    drawn = [{name: curve for name, curve in run.curves.items() if len(curve.steps)} for run in runs]
    for number, curves in enumerate(drawn):
        colour = f"C{number % 10}"
        for part, name in enumerate(LOSSES):
            style = {"color": colour, "linestyle": _STYLES[part]} if several else {"color": f"C{part}"}
            _line(losses, curves.get(name), label=name if number == 0 else None, **style)
        for plot, name in ((accuracy, ACCURACY), (rate, RATE), (mean_ap, MEAN_AP)):
            _line(plot, curves.get(name), color=colour, marker="." if name == MEAN_AP else "")
        if MEAN_AP in curves:
            steps, values = curves[MEAN_AP]
            best = int(np.argmax(values))  # the first of equal ones
            label = f"best: {values[best]:.3f} at step {steps[best]}"
            star = {"marker": "*", "markersize": 14, "color": colour, "markeredgecolor": "black", "linestyle": ""}
            mean_ap.plot([steps[best]], [values[best]], label=label, **star)
            mean_ap.legend(fontsize=9, loc="best")

    total = np.concatenate([np.zeros(0), *(curves[LOSSES[0]].values for curves in drawn if LOSSES[0] in curves)])
    highest = np.percentile(total, 99) if len(total) else 0  # the first losses may be large
    losses.set(title="loss and its parts", ylim=(0, 1.1 * highest if highest > 0 else 1))
    if losses.get_lines():
        handles = losses.legend(fontsize=9, loc="upper right").legend_handles
        for handle in handles if several else ():  # a colour is a run there
            handle.set_color("black")
    accuracy.set(title="accuracy of the boxes that the loss counts", ylim=(0, 1.02))
    rate.set(title=RATE, xlabel="step")
    if any((curves[RATE].values > 0).any() for curves in drawn if RATE in curves):
        rate.set_yscale("log")  # which warns where there is nothing to show
    mean_ap.set(title="mAP (VOC07) of the validation records", xlabel="step", ylim=(0, 1.02))
    if not mean_ap.get_lines():
        mean_ap.text(0.5, 0.5, "no evaluation in the course of the training", transform=mean_ap.transAxes, ha="center")
    last = max((int(curve.steps[-1]) for curves in drawn for curve in curves.values()), default=1)
    for plot in (losses, accuracy, rate, mean_ap):
        plot.set_xlim(0, 1.02 * max(last, 1))
        plot.grid(alpha=0.3)

    if several:
        from matplotlib.lines import Line2D  # noqa: PLC0415 (see `_figure`)

        lines = [Line2D([], [], color=f"C{number % 10}", linewidth=3) for number in range(len(runs))]
        for text in figure.legend(lines, names, loc="upper center", ncols=4, fontsize=9).get_texts():
            text.set_parse_math(False)
    else:
        figure.suptitle(names[0], parse_math=False)
    _save(figure, path, dpi=100)


def _line(plot: Any, curve: Curve | None, **style: Any) -> None:
    if curve is not None:
        dot = {"marker": "."} if len(curve.steps) == 1 else {}  # a line of one point is invisible
        plot.plot(curve.steps, curve.values, **{"linewidth": 1.2, **style, **dot})


def _figure(inches: tuple[float, float], rows: int, columns: int, room: Mapping[str, float]) -> tuple[Any, np.ndarray]:
    """Return a figure with its rows x columns plots; names in it need `parse_math=False`, or "$x$" is a formula."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (takes half a second; pyplot takes another)

    figure = Figure(inches)
    # fixed margins, because a layout engine takes seconds
    return figure, figure.subplots(rows, columns, squeeze=False, gridspec_kw=dict(room)).ravel()


def _save(figure: Any, path: str | Path, dpi: int) -> None:
    with whole_file(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a letter without a glyph becomes a box
        figure.savefig(unfinished, format="png", dpi=dpi)
