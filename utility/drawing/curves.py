"""The course of trainings as one picture: loss with its parts, accuracy, learning rate and mAP, by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utility.drawing.detections import cut_to_length, save_figure

# Precision-recall curves, drawn with matplotlib.

_COLUMNS = 5
_MOST_PLOTS = 100  # COCO has 80 classes; more than 1300 would exceed matplotlib's largest picture
_LONGEST_NAME_CURVES = 24  # characters over a plot
_PLOT_INCHES = (2.2, 2.0)  # width, height of the plot of one class
_MARGIN_INCHES = 0.5  # around the plots


def draw_precision_recall(curves: Mapping[str, tuple[float, Sequence[float]]], path: str | Path) -> None:
    """Write a PNG with a small precision-recall plot per class; it is written to a temporary name, then renamed.

    Of more than 100 classes the first 100 are drawn, and the picture says so. Without a class it is empty.

    Args:
      curves: class name -> average precision, and the 11 interpolated precisions: the highest precision at a recall
        of at least 0, .1, ..., 1. All in [0, 1].
      path: of the PNG; its folder must exist.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (takes half a second; pyplot takes another)

    drawn = dict(islice(curves.items(), _MOST_PLOTS))
    columns = min(_COLUMNS, max(len(drawn), 1))
    rows = max(math.ceil(len(drawn) / columns), 1)
    width, height = columns * _PLOT_INCHES[0] + 2 * _MARGIN_INCHES, rows * _PLOT_INCHES[1] + 2 * _MARGIN_INCHES
    figure = Figure((width, height))
    left, bottom = _MARGIN_INCHES / width, _MARGIN_INCHES / height
    # fixed margins, because a layout engine takes seconds
    grid = {"wspace": 0.15, "hspace": 0.3, "left": left, "bottom": bottom, "right": 1 - left, "top": 1 - bottom}
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=grid).ravel()
    recall = [point / 10 for point in range(11)]
    for plot, (name, (ap, precision)) in zip(axes, drawn.items(), strict=False):
        plot.step(recall, precision, where="pre")
        plot.fill_between(recall, precision, step="pre", alpha=0.2)
        # a name between dollar signs is a name, and no formula
        plot.set_title(f"{cut_to_length(name, _LONGEST_NAME_CURVES)} {ap:.3f}", fontsize=9, parse_math=False)
        plot.tick_params(labelsize=8)
        plot.set(xlim=(0, 1), ylim=(0, 1.05), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        plot.label_outer()  # shared axes would look the same, but every plot would set those of all others
    for plot in axes[len(drawn) :]:
        plot.set_axis_off()
    left_out = f"; the first {len(drawn)} of {len(curves)} classes" if len(drawn) < len(curves) else ""
    figure.supxlabel(f"recall{left_out}", fontsize=9, y=0.1 / height)
    figure.supylabel("precision", fontsize=9, x=0.08 / width)
    save_figure(figure, path)


LOSSES = ("loss", "cross entropy", "location", "l2")
ACCURACY, RATE, MEAN_AP = "accuracy", "learning rate", "mAP"

_MOST_POINTS = 1000  # of a line; the picture has fewer pixels for it
_LARGEST = 1e30  # a loss above is TensorFlow's largest number, in place of one that is not finite
_INCHES = (12, 8)  # width, height
_LONGEST_NAME = 48  # characters of a run
_STYLES = ("-", "--", ":", "-.")  # of the losses, where the colour tells the run
_PER_CENT = 99  # of the losses fit into the picture; the first ones may be large


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


def best_of(curve: Curve) -> tuple[int, float]:
    """Return the step and value of the highest point, the first of equal ones; the curve must have one."""
    index = int(np.argmax(curve.values))
    return int(curve.steps[index]), float(curve.values[index])


def draw_runs(runs: Sequence[Run], path: str | Path) -> None:
    """Write a PNG with the curves of one run or several; a plot without any is left empty, that of mAP says why.

    Args:
      runs: at least one. Of several, each has a colour in all plots.
      path: of the PNG; its folder must exist.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (as curves.py)

    figure = Figure(_INCHES)
    room = {"left": 0.06, "right": 0.98, "bottom": 0.07, "top": 0.91, "wspace": 0.14, "hspace": 0.24}
    losses, accuracy, rate, mean_ap = figure.subplots(2, 2, gridspec_kw=room).ravel()
    for number, run in enumerate(runs):
        for part, name in enumerate(LOSSES):
            single = len(runs) == 1
            style = {"color": f"C{part if single else number % 10}", "linestyle": "-" if single else _STYLES[part]}
            _line(losses, run, name, label=name if number == 0 else None, **style)
        for plot, name in ((accuracy, ACCURACY), (rate, RATE), (mean_ap, MEAN_AP)):
            _line(plot, run, name, color=f"C{number % 10}", marker="." if name == MEAN_AP else "")
        _mark_best(mean_ap, run, f"C{number % 10}")
    _set_up_losses(losses, runs)
    accuracy.set(title="accuracy of the boxes that the loss counts", ylim=(0, 1.02))
    rate.set(title=RATE, xlabel="step")
    if any((run.curves[RATE].values > 0).any() for run in runs if RATE in run.curves):
        rate.set_yscale("log")  # which warns where there is nothing to show
    mean_ap.set(title="mAP (VOC07) of the validation records", xlabel="step", ylim=(0, 1.02))
    if not mean_ap.get_lines():
        mean_ap.text(0.5, 0.5, "no evaluation in the course of the training", transform=mean_ap.transAxes, ha="center")
    _name(figure, runs)
    _share_steps((losses, accuracy, rate, mean_ap), runs)
    save_figure(figure, path, dpi=100)


def _line(plot: Any, run: Run, name: str, **style: Any) -> None:
    curve = run.curves.get(name)
    if curve is not None and len(curve.steps):
        dot = {"marker": "."} if len(curve.steps) == 1 else {}  # a line of one point is invisible
        plot.plot(curve.steps, curve.values, **{"linewidth": 1.2, **style, **dot})


def _mark_best(plot: Any, run: Run, colour: str) -> None:
    curve = run.curves.get(MEAN_AP)
    if curve is None or not len(curve.steps):
        return
    step, value = best_of(curve)
    label = f"best: {value:.3f} at step {step}"
    plot.plot([step], [value], marker="*", markersize=14, color=colour, markeredgecolor="black", label=label, ls="")
    plot.legend(fontsize=9, loc="best")


def _set_up_losses(plot: Any, runs: Sequence[Run]) -> None:
    plot.set(title="loss and its parts")
    total = [run.curves[LOSSES[0]].values for run in runs if LOSSES[0] in run.curves]
    highest = np.percentile(np.concatenate(total), _PER_CENT) if sum(map(len, total)) else 0
    plot.set_ylim(0, 1.1 * highest if highest > 0 else 1)
    if plot.get_lines():
        handles = plot.legend(fontsize=9, loc="upper right").legend_handles
        for handle in handles if len(runs) > 1 else ():  # a colour is a run there
            handle.set_color("black")


def _name(figure: Any, runs: Sequence[Run]) -> None:
    names = [cut_to_length(run.name, _LONGEST_NAME) for run in runs]
    if len(runs) == 1:
        figure.suptitle(names[0], parse_math=False)
        return
    from matplotlib.lines import Line2D  # noqa: PLC0415

    lines = [Line2D([], [], color=f"C{number % 10}", linewidth=3) for number in range(len(runs))]
    legend = figure.legend(lines, names, loc="upper center", ncols=4, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _share_steps(plots: Sequence[Any], runs: Sequence[Run]) -> None:
    last = max((int(c.steps[-1]) for run in runs for c in run.curves.values() if len(c.steps)), default=1)
    for plot in plots:
        plot.set_xlim(0, 1.02 * max(last, 1))
        plot.grid(alpha=0.3)
