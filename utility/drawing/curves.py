"""Precision-recall curves, drawn with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from utility.drawing.names import cut_to_length
from utility.drawing.saving import save_figure

_COLUMNS = 5
_MOST_PLOTS = 100  # COCO has 80 classes; more than 1300 would exceed matplotlib's largest picture
_LONGEST_NAME = 24  # characters over a plot
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
        plot.set_title(f"{cut_to_length(name, _LONGEST_NAME)} {ap:.3f}", fontsize=9, parse_math=False)
        plot.tick_params(labelsize=8)
        plot.set(xlim=(0, 1), ylim=(0, 1.05), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        plot.label_outer()  # shared axes would look the same, but every plot would set those of all others
    for plot in axes[len(drawn) :]:
        plot.set_axis_off()
    left_out = f"; the first {len(drawn)} of {len(curves)} classes" if len(drawn) < len(curves) else ""
    figure.supxlabel(f"recall{left_out}", fontsize=9, y=0.1 / height)
    figure.supylabel("precision", fontsize=9, x=0.08 / width)
    save_figure(figure, path)
