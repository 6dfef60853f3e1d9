"""The course of trainings, from the event files and scores in their model directories, drawn as curves.png."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

from utility.drawing.detections import cut_to_length
from utility.errors import UserError
from utility.files.json_files import read_json
from utility.files.text_files import whole_file, write_whole
from utility.run.log import attempted

PICTURE = "curves.png"
HISTORY = "evaluations.json"  # the scores of a training's evaluations
_LOSSES = ("loss", "cross entropy", "location", "l2")
_ACCURACY, _RATE, _MEAN_AP = "accuracy", "learning rate", "mAP"
# the summaries of ssd_model_fn, and the Estimator's own of the loss
_TAGS = {"loss": "loss", **{f"train/{n.replace(' ', '_')}": n for n in (*_LOSSES[1:], _ACCURACY, _RATE)}}
_MOST_POINTS = 1000  # of a line; the picture has fewer pixels for it
_LARGEST = 1e30  # a loss above is TensorFlow's largest number, in place of one that is not finite


class Scores(TypedDict):
    """An evaluation."""

    step: int
    mAP: float
    AP: dict[str, float | None]  # by class name; None: no ground truth


class Curve(NamedTuple):
    """Values at steps in ascending order, int64 [n] and float64 [n]."""

    steps: np.ndarray
    values: np.ndarray


def read_scores(model_dir: str | Path) -> list[Scores]:
    """Return the scores of a model directory, [] if there are none; a UserError if the file is damaged."""
    path = Path(model_dir, HISTORY)
    return read_json(path, "remove it, and the evaluations start anew", list[Scores]) if path.is_file() else []


def write_scores(model_dir: str | Path, entries: Sequence[Scores]) -> None:
    """Write the scores of a model directory."""
    write_whole(Path(model_dir, HISTORY), json.dumps(entries, indent=1) + "\n")


def draw_again(model_dir: str | Path) -> None:
    """Draw a training's curves.png anew; if that fails, the log says so."""
    with attempted(PICTURE):
        draw([model_dir], Path(model_dir, PICTURE))


def draw(model_dirs: Sequence[str | Path], path: str | Path) -> None:
    """Write a PNG of one training or several.

    A UserError if a model directory is no folder or has nothing to draw, or its evaluations.json is damaged.
    """
    runs = [(str(model_dir), curves_of(model_dir)) for model_dir in model_dirs]
    for name, curves in runs:
        if not curves:
            raise UserError(f"--model_dir={name}: it has neither summaries of a training nor {HISTORY}")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw_runs(runs, path)


def curves_of(model_dir: str | Path) -> dict[str, Curve]:
    """Return the curves of a model directory by name, those that it has."""
    folder = Path(model_dir)
    if not folder.is_dir():
        raise UserError(f"--model_dir={model_dir}: there is no such folder")
    values = {_TAGS[tag]: by_step for tag, by_step in read_scalars(folder).items()}
    scores = {entry["step"]: entry["mAP"] for entry in read_scores(folder)}
    if scores:
        values[_MEAN_AP] = scores
    return {name: curve_of(by_step) for name, by_step in values.items()}


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return the scalars of a folder's event files: by tag the values by step, if there are any.

    A file that was begun later is of a run that resumed from a checkpoint: from its first step on, what the files
    before tell is of steps that were lost. Of a file that is cut off or broken, the part before that counts.
    """

    def begun(path: Path) -> tuple[int, str]:  # in seconds, as the name tells
        time = path.name.partition(".tfevents.")[2].partition(".")[0]
        return int(time) if time.isdecimal() else 0, path.name

    found: dict[str, dict[int, float]] = {tag: {} for tag in _TAGS}
    for path in sorted(folder.glob("*.tfevents.*"), key=begun):
        later = []
        try:
            for event in tf.train.summary_iterator(str(path)):
                scalars = (value for value in event.summary.value if value.WhichOneof("value") == "simple_value")
                later += [(value.tag, event.step, value.simple_value) for value in scalars if value.tag in found]
        except (tf.errors.OpError, DecodeError):
            pass  # another process may be writing the rest just now
        if later:
            first = min(step for _, step, _ in later)
            found = {tag: {step: v for step, v in values.items() if step < first} for tag, values in found.items()}
        for tag, step, value in later:
            found[tag][step] = value
    return {tag: values for tag, values in found.items() if values}


def curve_of(values: Mapping[int, float]) -> Curve:
    """Return the finite ones of values by step, thinned to every n-th so that about 1000 remain, the last included."""
    points = [(step, value) for step, value in sorted(values.items()) if abs(value) < _LARGEST]  # False for a NaN
    stride = max(math.ceil(len(points) / _MOST_POINTS), 1)
    kept = points[::-1][::stride][::-1]
    return Curve(np.array([s for s, _ in kept], np.int64), np.array([v for _, v in kept], np.float64))


def draw_runs(runs: Sequence[tuple[str, Mapping[str, Curve]]], path: str | Path) -> None:
    """Write a PNG with the named curves of one run or several, each of which then has a colour in all plots.

    A plot without any curve is left empty, that of mAP says why. The folder of the PNG must exist.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (takes half a second; pyplot takes another)
    from matplotlib.lines import Line2D  # noqa: PLC0415

    figure = Figure((12, 8))
    # fixed margins, because a layout engine takes seconds
    room = {"left": 0.06, "right": 0.98, "bottom": 0.07, "top": 0.91, "wspace": 0.14, "hspace": 0.24}
    plots = losses, accuracy, rate, mean_ap = figure.subplots(2, 2, gridspec_kw=room).ravel()
    several = len(runs) > 1
    drawn = [{name: curve for name, curve in curves.items() if len(curve.steps)} for _, curves in runs]
    for number, curves in enumerate(drawn):
        colour = f"C{number % 10}"
        for name, curve in curves.items():
            style: dict[str, Any] = {"linewidth": 1.2, "color": colour}
            if len(curve.steps) == 1 or name == _MEAN_AP:  # a line of one point is invisible
                style["marker"] = "."
            if name in _LOSSES:
                part = _LOSSES.index(name)
                style |= {"linestyle": ("-", "--", ":", "-.")[part]} if several else {"color": f"C{part}"}
            plot = {_ACCURACY: accuracy, _RATE: rate, _MEAN_AP: mean_ap}.get(name, losses)
            plot.plot(curve.steps, curve.values, label=name if plot is losses and number == 0 else None, **style)
        if _MEAN_AP in curves:
            steps, values = curves[_MEAN_AP]
            best = int(np.argmax(values))  # the first of equal ones
            label = f"best: {values[best]:.3f} at step {steps[best]}"
            star = {"marker": "*", "markersize": 14, "color": colour, "markeredgecolor": "black", "linestyle": ""}
            mean_ap.plot([steps[best]], [values[best]], label=label, **star)
            mean_ap.legend(fontsize=9, loc="best")

    total = np.concatenate([np.zeros(0), *(curves["loss"].values for curves in drawn if "loss" in curves)])
    highest = np.percentile(total, 99) if len(total) else 0  # the first losses may be large
    losses.set(title="loss and its parts", ylim=(0, 1.1 * highest if highest > 0 else 1))
    if losses.get_lines():
        handles = losses.legend(fontsize=9, loc="upper right").legend_handles
        for handle in handles if several else ():  # a colour is a run there
            handle.set_color("black")
    accuracy.set(title="accuracy of the boxes that the loss counts", ylim=(0, 1.02))
    rate.set(title=_RATE, xlabel="step")
    if any((curves[_RATE].values > 0).any() for curves in drawn if _RATE in curves):
        rate.set_yscale("log")  # which warns where there is nothing to show
    mean_ap.set(title="mAP (VOC07) of the validation records", xlabel="step", ylim=(0, 1.02))
    if not mean_ap.get_lines():
        mean_ap.text(0.5, 0.5, "no evaluation in the course of the training", transform=mean_ap.transAxes, ha="center")
    last = max((int(curve.steps[-1]) for curves in drawn for curve in curves.values()), default=1)
    for plot in plots:
        plot.set_xlim(0, 1.02 * max(last, 1))
        plot.grid(alpha=0.3)

    names = [cut_to_length(name, 48) for name, _ in runs]  # without parse_math, "$x$" is no formula
    if several:
        lines = [Line2D([], [], color=f"C{number % 10}", linewidth=3) for number in range(len(runs))]
        for text in figure.legend(lines, names, loc="upper center", ncols=4, fontsize=9).get_texts():
            text.set_parse_math(False)
    else:
        figure.suptitle(names[0], parse_math=False)
    with whole_file(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a letter without a glyph becomes a box
        figure.savefig(unfinished, format="png", dpi=100)
