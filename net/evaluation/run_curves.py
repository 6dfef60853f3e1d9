"""The course of a training, from the event files and scores in its model directory, as curves.png."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from net.evaluation import history
from utility.drawing.training_curves import ACCURACY, LOSSES, MEAN_AP, RATE, Run, curve_of, draw_runs
from utility.files.event_files import read_scalars
from utility.run.attempt import attempted

PICTURE = "curves.png"

# the summaries of ssd_model_fn, and the Estimator's own of the loss
_TAGS = {
    **{name: f"train/{name.replace(' ', '_')}" for name in (*LOSSES, ACCURACY, RATE)},
    LOSSES[0]: "loss",
}


def run_of(model_dir: str | Path) -> Run:
    """Return the curves of a model directory, those that it has.

    Raises:
        ValueError: it is no folder, or its evaluations.json is damaged.
    """
    folder = Path(model_dir)
    if not folder.is_dir():
        raise ValueError(f"--model_dir={model_dir}: there is no such folder")
    scalars = read_scalars(folder, _TAGS.values())
    values = {name: scalars[tag] for name, tag in _TAGS.items() if tag in scalars}
    scores = {entry["step"]: entry["mAP"] for entry in history.read(folder)}
    if scores:
        values[MEAN_AP] = scores
    return Run(str(model_dir), {name: curve_of(by_step) for name, by_step in values.items()})


def draw(model_dirs: Sequence[str | Path], path: str | Path) -> None:
    """Write a PNG of one training or several.

    Raises:
        ValueError: as `run_of`; or one of them has nothing to draw.
    """
    runs = [run_of(model_dir) for model_dir in model_dirs]
    for run in runs:
        if not run.curves:
            raise ValueError(f"--model_dir={run.name}: it has neither summaries of a training nor {history.HISTORY}")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw_runs(runs, path)


def draw_again(model_dir: str | Path) -> None:
    """Draw a training's curves.png anew; if that fails, the log says so."""
    with attempted(PICTURE):
        draw([model_dir], Path(model_dir, PICTURE))
