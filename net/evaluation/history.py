"""The scores of a training's evaluations, as evaluations.json in its model directory holds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from utility.files import json_files, text_files

HISTORY = "evaluations.json"


class Scores(TypedDict):
    """An evaluation."""

    step: int
    mAP: float
    AP: dict[str, float | None]  # by class name; None: no ground truth


def read(model_dir: str | Path) -> list[Scores]:
    """Return the scores of a model directory, [] if there are none; a ValueError if the file is damaged."""
    path, remedy = Path(model_dir, HISTORY), "remove it, and the evaluations start anew"
    if not path.is_file():
        return []
    entries = json_files.read_json(path, remedy, list)
    try:
        return json_files.checked(list[Scores], entries)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {remedy}") from error


def write(model_dir: str | Path, entries: Sequence[Scores]) -> None:
    """Write the scores of a model directory."""
    text_files.write_whole(Path(model_dir, HISTORY), json.dumps(entries, indent=1) + "\n")
