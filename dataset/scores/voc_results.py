"""The files `results_{class_id}.txt` that hold detections in the devkit's format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dataset.scores.detection_store import NO_DETECTIONS, ClassDetections
from utility.errors import UserError
from utility.files.text_files import read_utf8, shortened, whole_file

_LINE = "{} {:.10f} {:.4f} {:.4f} {:.4f} {:.4f}\n".format
_RESULTS_NAME = re.compile(r"results_(0|[1-9][0-9]{0,8})\.txt")


def results_path(pred_dir: str | Path, class_id: int) -> Path:
    """Return the path of the results file of a class."""
    return Path(pred_dir) / f"results_{class_id}.txt"


def results_class_ids(pred_dir: str | Path) -> list[int]:
    """Return the class ids for which a folder has a results file, in ascending order; [] if there is no folder."""
    names = (path.name for path in Path(pred_dir).glob("results_*.txt"))
    return sorted(int(match[1]) for match in map(_RESULTS_NAME.fullmatch, names) if match)


def write_results(pred_dir: str | Path, detections: Mapping[int, ClassDetections], num_classes: int) -> None:
    """Write `results_{class_id}.txt` for the classes 1..num_classes - 1, empty where there is no detection.

    Lines are `image_id score xmin ymin xmax ymax`. Ten decimals keep any two float32 scores above .01 distinct, and so
    the order of detections. Files appear when the last is whole, and those of other classes, which an earlier run has
    left, are removed. The detections of one class after the other are asked for; a UserError if a score or coordinate
    is not finite.
    """
    class_ids = range(1, num_classes)
    Path(pred_dir).mkdir(parents=True, exist_ok=True)
    with ExitStack() as all_whole:
        for class_id in class_ids:
            found = detections.get(class_id, NO_DETECTIONS)
            numbers = np.column_stack([found.scores, found.boxes_yxyx_px[:, [1, 0, 3, 2]]])
            infinite = ~np.isfinite(numbers).all(axis=1)
            if infinite.any():
                image_id = found.image_ids[infinite][0]
                raise UserError(
                    f"detections of class {class_id} in image {image_id}: a score or coordinate is not finite"
                )
            path = all_whole.enter_context(whole_file(results_path(pred_dir, class_id)))
            with path.open("w", encoding="utf-8", newline="") as stream:
                stream.writelines(_LINE(image_id, *row) for image_id, row in zip(found.image_ids, numbers, strict=True))
    for stale in set(results_class_ids(pred_dir)) - set(class_ids):
        results_path(pred_dir, stale).unlink(missing_ok=True)


def read_results(path: str | Path) -> ClassDetections:
    """Read one results file; the last five fields of a line are numbers, the rest is the image id.

    A UserError names the line that has fewer than six fields, or a number that is not finite.
    """
    image_ids: list[str] = []
    numbers: list[float] = []  # flat: a list for each line takes three times as long, because of garbage collection
    known: dict[str, str] = {}  # the id of a thousand lines is kept once
    lines = [
        (number, line)
        for number, line in enumerate(read_utf8(Path(path)).split("\n"), 1)
        if line and not line.isspace()
    ]

    def fault(number: int, line: str) -> UserError:
        what = "is not image_id score xmin ymin xmax ymax with finite numbers"
        return UserError(f"results file {path}, line {number}: '{shortened(line.strip())}' {what}")

    for number, line in lines:
        try:
            image_id, score, xmin, ymin, xmax, ymax = line.rsplit(None, 5)
            numbers += (float(score), float(xmin), float(ymin), float(xmax), float(ymax))
        except ValueError as error:  # too few fields, or one that is no number
            raise fault(number, line) from error
        image_id = image_id.strip()
        image_ids.append(known.setdefault(image_id, image_id))
    table = np.array(numbers, dtype=np.float64).reshape(-1, 5)  # score, xmin, ymin, xmax, ymax
    infinite = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(infinite):
        raise fault(*lines[infinite[0]])
    return ClassDetections(np.array(image_ids, dtype=np.object_), table[:, 0], table[:, [2, 1, 4, 3]])
