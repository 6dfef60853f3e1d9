"""Detections in pixels, and the files `results_{class_id}.txt` that hold them in the devkit's format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utility.files.text_files import finite_number, read_utf8, write_whole

_RESULTS_NAME = re.compile(r"results_(\d+)\.txt")


@dataclass(frozen=True)
class Detections:
    """Detections of one class in any number of images, in the order of the results file.

    `image_ids` is a str array [D]; `scores` float64 [D]; `boxes_yxyx_px` float64 [D, 4] in pixels, 1-based
    and inclusive. Arguments are converted to these types; different lengths are a ValueError.
    """

    image_ids: np.ndarray
    scores: np.ndarray
    boxes_yxyx_px: np.ndarray

    def __post_init__(self) -> None:
        image_ids = np.asarray(self.image_ids, dtype=np.str_)
        scores = np.asarray(self.scores, dtype=np.float64)
        boxes = np.asarray(self.boxes_yxyx_px, dtype=np.float64)
        boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
        if image_ids.ndim != 1 or scores.shape != image_ids.shape or boxes.shape != (len(image_ids), 4):
            shapes = f"{image_ids.shape}, {scores.shape}, {boxes.shape}"
            raise ValueError(f"image_ids [D], scores [D] and boxes [D, 4] have shapes {shapes}")
        for name, value in (("image_ids", image_ids), ("scores", scores), ("boxes_yxyx_px", boxes)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Return D."""
        return len(self.scores)


def results_path(pred_dir: str | Path, class_id: int) -> Path:
    """Return the path of the results file of a class."""
    return Path(pred_dir) / f"results_{class_id}.txt"


def results_class_ids(pred_dir: str | Path) -> list[int]:
    """Return the class ids for which a folder has a results file, in ascending order; [] if there is no folder."""
    names = (path.name for path in Path(pred_dir).glob("results_*.txt"))
    return sorted(int(match[1]) for match in map(_RESULTS_NAME.fullmatch, names) if match)


def detections_by_class(images: Iterable[Mapping[str, Any]]) -> dict[int, Detections]:
    """Group the detections of images by class, with boxes in pixels.

    Each image has `image_id` (bytes), `size` (height, width in pixels), `boxes_yxyx` float [D, 4] in [0, 1],
    `scores` [D] and `classes` int [D] from 1. Records hold raw VOC pixels divided by the size, so boxes times the size
    are raw pixels, without an offset of 1.
    """
    ids: list[str] = []
    arrays: list[np.ndarray] = [np.zeros((0, 6))]  # score, box, class
    for image in images:
        boxes = image["boxes_yxyx"].astype(np.float64) * np.tile(image["size"], 2)
        arrays.append(np.column_stack([image["scores"], boxes, image["classes"]]))
        ids += [image["image_id"].decode()] * len(boxes)
    table, names = np.concatenate(arrays), np.array(ids, dtype=np.str_)
    return {
        int(class_id): Detections(names[mine], table[mine, 0], table[mine, 1:5])
        for class_id in np.unique(table[:, 5])
        for mine in [table[:, 5] == class_id]
    }


def write_results(pred_dir: str | Path, detections: Mapping[int, Detections], num_classes: int) -> None:
    """Write `results_{class_id}.txt` for the classes 1..num_classes - 1, empty where there is no detection.

    Lines are `image_id score xmin ymin xmax ymax`. Ten decimals keep any two float32 scores above .01 distinct, and so
    the order of detections. Results files of other classes, which an earlier run has left, are removed.

    Raises:
        ValueError: a class id outside of 1..num_classes - 1, or a score or coordinate that is not finite.
    """
    pred_dir = Path(pred_dir)
    class_ids = range(1, num_classes)
    unknown = sorted(set(detections) - set(class_ids))
    if unknown:
        raise ValueError(
            f"detections of class ids {unknown}, but num_classes {num_classes} allows 1 to {num_classes - 1}"
        )
    texts = {class_id: _format_results(class_id, detections.get(class_id)) for class_id in class_ids}
    for class_id, text in texts.items():
        write_whole(results_path(pred_dir, class_id), text)
    for stale in set(results_class_ids(pred_dir)) - set(class_ids):
        results_path(pred_dir, stale).unlink(missing_ok=True)


def _format_results(class_id: int, found: Detections | None) -> str:
    if found is None:
        return ""
    numbers = np.column_stack([found.scores, found.boxes_yxyx_px[:, [1, 0, 3, 2]]])
    if not np.isfinite(numbers).all():
        bad = found.image_ids[~np.isfinite(numbers).all(axis=1)][0]
        raise ValueError(f"detections of class {class_id} in image {bad}: a score or coordinate is not finite")
    rows = zip(found.image_ids.tolist(), numbers.tolist(), strict=True)
    line = "{} {:.10f} {:.4f} {:.4f} {:.4f} {:.4f}\n".format
    return "".join(line(image_id, *row) for image_id, row in rows)


def read_results(path: str | Path) -> Detections:
    """Read one results file; the last five fields of a line are numbers, the rest is the image id.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line has fewer than six fields, or a number that is not finite; the message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"results file {path} does not exist: write it with eval_ssd.py")
    try:
        image_ids, numbers = _split_lines(read_utf8(path))
    except ValueError as error:
        raise ValueError(_first_bad_line(path)) from error
    # [D, 5] of score, xmin, ymin, xmax, ymax -> boxes of ymin, xmin, ymax, xmax
    return Detections(np.array(image_ids, dtype=np.str_), numbers[:, 0], numbers[:, [2, 1, 4, 3]])


def _split_lines(text: str) -> tuple[list[str], np.ndarray]:
    """Return the image ids and the numbers [D, 5] of a results file; ValueError if a line is bad.

    One flat list of numbers is three times as fast as a list for each line, because of garbage collection.
    """
    image_ids: list[str] = []
    numbers: list[float] = []
    for line in text.split("\n"):
        if line and not line.isspace():
            image_id, score, xmin, ymin, xmax, ymax = line.rsplit(None, 5)
            image_ids.append(image_id.strip())
            numbers += (float(score), float(xmin), float(ymin), float(xmax), float(ymax))
    table = np.array(numbers, dtype=np.float64).reshape(-1, 5)
    if not np.isfinite(table).all():
        raise ValueError("a number is not finite")
    return image_ids, table


def _first_bad_line(path: Path) -> str:
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        fields = line.rsplit(None, 5)
        if fields and (len(fields) != 6 or any(finite_number(field) is None for field in fields[1:])):
            expected = "image_id score xmin ymin xmax ymax with finite numbers"
            return f"results file {path}, line {number}: {line.strip()!r} is not {expected}"
    raise AssertionError(f"{path} changed while it was read")
