"""Curves as pictures, with matplotlib."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

_COLUMNS = 5
_CELL_INCHES = (2.2, 2.0)  # width, height of a class's curve
_MARGIN_INCHES = 0.5  # around all of them


def draw_precision_recall(curves: Mapping[str, tuple[float, Sequence[float]]], path: str | Path) -> None:
    """Write a PNG with a small plot of each class; the file appears under its name only when whole.

    Args:
      curves: by class name, the average precision and the best precision at a recall of 0, .1, ..., 1 or more,
        all in [0, 1].
      path: of the picture; its folder must be there.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (half a second, of which pyplot would take another)

    columns = min(_COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    width, height = columns * _CELL_INCHES[0] + 2 * _MARGIN_INCHES, rows * _CELL_INCHES[1] + 2 * _MARGIN_INCHES
    figure = Figure((width, height))
    sides = {"left": _MARGIN_INCHES / width, "bottom": _MARGIN_INCHES / height}  # a layout engine takes seconds
    ends = {"right": 1 - sides["left"], "top": 1 - sides["bottom"]}
    gaps = {"wspace": 0.15, "hspace": 0.3, **sides, **ends}
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False, gridspec_kw=gaps).ravel()
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
    os.replace(unfinished, path)  # noqa: PTH105 (as labels.write_whole)
