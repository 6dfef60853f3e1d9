"""The course of a training, from the event files and scores in its model directory, as curves.png."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from utility.drawing.curves import ACCURACY, LOSSES, MEAN_AP, RATE, Run, curve_of, draw_runs
from utility.errors import UserError
from utility.files import json_files, text_files
from utility.files.event_files import read_scalars
from utility.run.log import attempted

PICTURE = "curves.png"
HISTORY = "evaluations.json"  # the scores of a training's evaluations
# the summaries of ssd_model_fn, and the Estimator's own of the loss
_TAGS = {
    **{name: f"train/{name.replace(' ', '_')}" for name in (*LOSSES, ACCURACY, RATE)},
    LOSSES[0]: "loss",
}


class Scores(TypedDict):
    """An evaluation."""

    step: int
    mAP: float
    AP: dict[str, float | None]  # by class name; None: no ground truth


def read_scores(model_dir: str | Path) -> list[Scores]:
    """Return the scores of a model directory, [] if there are none; a UserError if the file is damaged."""
    path, remedy = Path(model_dir, HISTORY), "remove it, and the evaluations start anew"
    if not path.is_file():
        return []
    return json_files.read_json(path, remedy, list[Scores])


def write_scores(model_dir: str | Path, entries: Sequence[Scores]) -> None:
    """Write the scores of a model directory."""
    text_files.write_whole(Path(model_dir, HISTORY), json.dumps(entries, indent=1) + "\n")


def draw(model_dirs: Sequence[str | Path], path: str | Path) -> None:
    """Write a PNG of one training or several.

    Raises:
        UserError: a model directory is no folder or has nothing to draw, or its evaluations.json is damaged.
    """
    runs = [run_of(model_dir) for model_dir in model_dirs]
    for run in runs:
        if not run.curves:
            raise UserError(f"--model_dir={run.name}: it has neither summaries of a training nor {HISTORY}")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw_runs(runs, path)


def draw_again(model_dir: str | Path) -> None:
    """Draw a training's curves.png anew; if that fails, the log says so."""
    with attempted(PICTURE):
        draw([model_dir], Path(model_dir, PICTURE))


def run_of(model_dir: str | Path) -> Run:
    """Return the curves of a model directory, those that it has."""
    folder = Path(model_dir)
    if not folder.is_dir():
        raise UserError(f"--model_dir={model_dir}: there is no such folder")
    scalars = read_scalars(folder, _TAGS.values())
    values = {name: scalars[tag] for name, tag in _TAGS.items() if tag in scalars}
    scores = {entry["step"]: entry["mAP"] for entry in read_scores(folder)}
    if scores:
        values[MEAN_AP] = scores
    return Run(str(model_dir), {name: curve_of(by_step) for name, by_step in values.items()})
