"""Detections in pixels, and the files `results_{class_id}.txt` that hold them in the devkit's format."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utility.errors import UserError
from utility.files.text_files import finite_number, read_utf8, shortened

_LINE = "{} {:.10f} {:.4f} {:.4f} {:.4f} {:.4f}\n".format
_ROWS_AT_ONCE = 50_000
_RESULTS_NAME = re.compile(r"results_(0|[1-9][0-9]{0,8})\.txt")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_LONGEST_ID = 255  # of a file's name


@dataclass(frozen=True)
class Detections:
    """Detections of one class in any number of images, in the order of the results file.

    `image_ids` is an object array [D] of str, because numpy's own gives every id the room of the longest; `scores`
    float64 [D]; `boxes_yxyx_px` float64 [D, 4] in pixels, 1-based and inclusive. Arguments are converted to these
    types; different lengths are a UserError.
    """

    image_ids: np.ndarray
    scores: np.ndarray
    boxes_yxyx_px: np.ndarray

    def __post_init__(self) -> None:
        image_ids = np.asarray(self.image_ids, dtype=np.object_)
        scores = np.asarray(self.scores, dtype=np.float64)
        boxes = np.asarray(self.boxes_yxyx_px, dtype=np.float64)
        boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
        if image_ids.ndim != 1 or scores.shape != image_ids.shape or boxes.shape != (len(image_ids), 4):
            shapes = f"{image_ids.shape}, {scores.shape}, {boxes.shape}"
            raise UserError(f"image_ids [D], scores [D] and boxes [D, 4] have shapes {shapes}")
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


class StoredDetections(Mapping[int, Detections]):
    """Detections in any number of images, by class id, kept in an unnamed file that ends with this object.

    Memory holds one part of them, and for a moment those of the class that is asked for. A part is sorted by class
    before it is written; all detections of an image are in the same part.
    """

    _ROW = np.dtype([("image", np.int32), ("score", np.float32), ("box_yxyx_px", np.float64, 4)])
    _ROWS_OF_PART = 100_000

    def __init__(self, images: Iterable[Mapping[str, Any]], folder: Path | None = None):
        """Take all images, which are described in `detections_by_class`; the file is in `folder` (None: in TMPDIR).

        OSError if there is no room for it.
        """
        self._folder = folder or tempfile.gettempdir()
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object)
        self._parts: list[dict[int, tuple[int, int]]] = []  # class id -> offset in bytes, number of rows
        ids: list[str] = []
        waiting: list[tuple[np.ndarray, np.ndarray]] = []  # class ids [D], rows [D]
        number = 0  # of rows in `waiting`
        for image in images:
            waiting.append((np.asarray(image["classes"], np.int64), self._rows(image, len(ids))))
            ids.append(image["image_id"].decode())
            number += len(image["scores"])
            if number >= self._ROWS_OF_PART:
                self._write(waiting)
                waiting, number = [], 0
        if waiting:
            self._write(waiting)
        self._image_ids: np.ndarray = np.array(ids, dtype=np.object_)

    def _rows(self, image: Mapping[str, Any], number: int) -> np.ndarray:
        rows = np.zeros(len(image["scores"]), self._ROW)
        rows["image"], rows["score"] = number, image["scores"]
        rows["box_yxyx_px"] = image["boxes_yxyx"].astype(np.float64) * np.tile(image["size"], 2)
        return rows

    def _write(self, images: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        classes, rows = (np.concatenate(column) for column in zip(*images, strict=True))
        order = np.argsort(classes, kind="stable")
        class_ids, starts, counts = np.unique(classes[order], return_index=True, return_counts=True)
        offsets = self._file.tell() + starts * self._ROW.itemsize
        try:
            self._file.write(rows[order].tobytes())
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} for the detections", str(self._folder)) from error
        segments = zip(offsets.tolist(), counts.tolist(), strict=True)
        self._parts.append(dict(zip(class_ids.tolist(), segments, strict=True)))

    def _read(self, segments: Iterable[tuple[int, int]]) -> Detections:
        rows = np.concatenate([self._segment(*segment) for segment in segments])
        return Detections(self._image_ids[rows["image"]], rows["score"], rows["box_yxyx_px"])

    def _segment(self, offset: int, count: int) -> np.ndarray:
        self._file.seek(offset)
        return np.frombuffer(self._file.read(count * self._ROW.itemsize), self._ROW)

    def __getitem__(self, class_id: int) -> Detections:
        """Return the detections of a class, in the order of the images."""
        segments = [part[class_id] for part in self._parts if class_id in part]
        if not segments:
            raise KeyError(class_id)
        return self._read(segments)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(set().union(*self._parts)))

    def __len__(self) -> int:
        """Return the number of classes that have a detection."""
        return len(set().union(*self._parts))

    def by_images(self) -> Iterator[dict[int, Detections]]:
        """Yield all detections of some images by class id, part after part of the images."""
        for part in self._parts:
            yield {class_id: self._read([segment]) for class_id, segment in part.items()}


def detections_by_class(images: Iterable[Mapping[str, Any]], folder: Path | None = None) -> StoredDetections:
    """Group the detections of images by class, with boxes in pixels, in a file in `folder` (None: in TMPDIR).

    Each image has `image_id` (bytes), `size` (height, width in pixels), `boxes_yxyx` float [D, 4] in [0, 1],
    `scores` float32 [D] and `classes` int [D] from 1. Records hold raw VOC pixels divided by the size, so boxes times
    the size are raw pixels, without an offset of 1.
    """
    return StoredDetections(images, folder)


def write_results(pred_dir: str | Path, detections: Mapping[int, Detections], num_classes: int) -> None:
    """Write `results_{class_id}.txt` for the classes 1..num_classes - 1, empty where there is no detection.

    Lines are `image_id score xmin ymin xmax ymax`. Ten decimals keep any two float32 scores above .01 distinct, and so
    the order of detections. Results files of other classes, which an earlier run has left, are removed. The
    detections of one class after the other are asked for.

    Raises:
        UserError: a class id outside of 1..num_classes - 1, or a score or coordinate that is not finite.
    """
    pred_dir = Path(pred_dir)
    class_ids = range(1, num_classes)
    unknown = sorted(set(detections) - set(class_ids))
    if unknown:
        raise UserError(
            f"detections of class ids {unknown}, but num_classes {num_classes} allows 1 to {num_classes - 1}"
        )
    write_together({results_path(pred_dir, class_id): _lines(class_id, detections) for class_id in class_ids})
    for stale in set(results_class_ids(pred_dir)) - set(class_ids):
        results_path(pred_dir, stale).unlink(missing_ok=True)


def write_together(texts: Mapping[Path, Iterable[str]]) -> None:
    """Write UTF-8 texts piece by piece; all appear under their names when the last is whole. Makes missing folders."""
    unfinished = {path: path.with_name(f".{path.name}.tmp") for path in texts}
    try:
        for path, pieces in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished[path].open("w", encoding="utf-8", newline="") as stream:
                stream.writelines(pieces)
        for path, written in unfinished.items():
            written.replace(path)
    finally:
        for left in unfinished.values():
            left.unlink(missing_ok=True)


def _lines(class_id: int, detections: Mapping[int, Detections]) -> Iterator[str]:
    found = detections.get(class_id)
    if found is None:
        return
    for start in range(0, len(found), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        numbers = np.column_stack([found.scores[part], found.boxes_yxyx_px[part][:, [1, 0, 3, 2]]])
        if not np.isfinite(numbers).all():
            bad = found.image_ids[part][~np.isfinite(numbers).all(axis=1)][0]
            raise UserError(f"detections of class {class_id} in image {bad}: a score or coordinate is not finite")
        rows = zip(found.image_ids[part].tolist(), numbers.tolist(), strict=True)
        yield from (_LINE(image_id, *row) for image_id, row in rows)


class ResultsFiles(Mapping[int, Detections]):
    """The detections in a folder's results files by class id; each access reads the file of the class."""

    def __init__(self, pred_dir: str | Path):
        self._pred_dir, self._class_ids = pred_dir, results_class_ids(pred_dir)

    def __getitem__(self, class_id: int) -> Detections:
        """Read a file, as `read_results` does."""
        if class_id not in self._class_ids:
            raise KeyError(class_id)
        return read_results(results_path(self._pred_dir, class_id))

    def __iter__(self) -> Iterator[int]:
        return iter(self._class_ids)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._class_ids)


def read_results(path: str | Path) -> Detections:
    """Read one results file; the last five fields of a line are numbers, the rest is the image id.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: a line has fewer than six fields, a number that is not finite or not in decimal digits, or an image
            id with control characters or of more than 255; the message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"results file {path} does not exist: write it with eval_ssd.py")
    try:
        image_ids, numbers = _split_lines(read_utf8(path))
    except ValueError as error:
        raise UserError(_first_bad_line(path)) from error
    # [D, 5] of score, xmin, ymin, xmax, ymax -> boxes of ymin, xmin, ymax, xmax
    return Detections(np.array(image_ids, dtype=np.object_), numbers[:, 0], numbers[:, [2, 1, 4, 3]])


def _split_lines(text: str) -> tuple[list[str], np.ndarray]:
    """Return the image ids and the numbers [D, 5] of a results file; UserError if a line is bad.

    One flat list of numbers is three times as fast as a list for each line, because of garbage collection.
    """
    image_ids: list[str] = []
    numbers: list[float] = []
    known: dict[str, str] = {}  # the id of a thousand lines is kept once
    controls = _CONTROL.search(text) is not None
    plain = text.isascii() and "_" not in text  # otherwise a number may be 1_0 or in other scripts' digits for float()
    for line in text.split("\n"):
        if line and not line.isspace():
            image_id, score, xmin, ymin, xmax, ymax = line.rsplit(None, 5)
            image_id = image_id.strip()
            image_ids.append(known.setdefault(image_id, image_id))
            numbers += (float(score), float(xmin), float(ymin), float(xmax), float(ymax))
            if controls or len(image_id) > _LONGEST_ID or not (plain or _is_plain(score, xmin, ymin, xmax, ymax)):
                _check(line)
    table = np.array(numbers, dtype=np.float64).reshape(-1, 5)
    if not np.isfinite(table).all():
        raise UserError("a number is not finite")
    return image_ids, table


def _is_plain(*numbers: str) -> bool:
    digits = "".join(numbers)
    return digits.isascii() and "_" not in digits


def _check(line: str) -> None:
    """Raise a UserError that says what is wrong with a line, if anything."""
    fields = line.rsplit(None, 5)
    if len(fields) != 6 or any(finite_number(field) is None for field in fields[1:]):
        raise UserError("is not image_id score xmin ymin xmax ymax with finite numbers")
    if len(fields[0].strip()) > _LONGEST_ID:
        raise UserError(f"has an image id of {len(fields[0])} characters; image ids are names of files")
    if _CONTROL.search(line.strip()):
        raise UserError("has a control character; image ids are names of files")


def _first_bad_line(path: Path) -> str:
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        try:
            if line and not line.isspace():
                _check(line)
        except ValueError as error:
            return f"results file {path}, line {number}: '{shortened(line.strip())}' {error}"
    raise AssertionError(f"{path} changed while it was read")
