"""Precision-recall curves, drawn with matplotlib."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

_COLUMNS = 5
_PLOT_INCHES = (2.2, 2.0)  # width, height of the plot of one class
_MARGIN_INCHES = 0.5  # around the plots


def draw_precision_recall(curves: Mapping[str, tuple[float, Sequence[float]]], path: str | Path) -> None:
    """Write a PNG with a small precision-recall plot per class; it is written to a temporary name, then renamed.

    Args:
      curves: class name -> average precision, and the 11 interpolated precisions: the highest precision at a recall
        of at least 0, .1, ..., 1. All in [0, 1].
      path: of the PNG; its folder must exist.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (takes half a second; pyplot takes another)

    columns = min(_COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    width, height = columns * _PLOT_INCHES[0] + 2 * _MARGIN_INCHES, rows * _PLOT_INCHES[1] + 2 * _MARGIN_INCHES
    figure = Figure((width, height))
    left, bottom = _MARGIN_INCHES / width, _MARGIN_INCHES / height
    # fixed margins, because a layout engine takes seconds
    grid = {"wspace": 0.15, "hspace": 0.3, "left": left, "bottom": bottom, "right": 1 - left, "top": 1 - bottom}
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False, gridspec_kw=grid).ravel()
    recall = [point / 10 for point in range(11)]
    for plot, (name, (ap, precision)) in zip(axes, curves.items(), strict=False):
        plot.step(recall, precision, where="pre")
        plot.fill_between(recall, precision, step="pre", alpha=0.2)
        plot.set_title(f"{name} {ap:.3f}", fontsize=9)
        plot.tick_params(labelsize=8)
        plot.set(xlim=(0, 1), ylim=(0, 1.05), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    for plot in axes[len(curves) :]:
        plot.set_axis_off()
    figure.supxlabel("recall", fontsize=9, y=0.1 / height)
    figure.supylabel("precision", fontsize=9, x=0.08 / width)
    unfinished = Path(path).with_name(f".{Path(path).name}.tmp")
    figure.savefig(unfinished, format="png", dpi=120)
    os.replace(unfinished, path)  # noqa: PTH105 (as text_files.write_whole)
