"""Detections in pixels by class, and the unnamed file that holds those of any number of images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utility.errors import UserError


@dataclass(frozen=True)
class ClassDetections:
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


NO_DETECTIONS = ClassDetections(np.zeros(0), np.zeros(0), np.zeros((0, 4)))

_ROW = np.dtype([("image", np.int32), ("score", np.float32), ("box_yxyx_px", np.float64, 4)])
_ROWS_OF_PART = 100_000


class StoredDetections(Mapping[int, ClassDetections]):
    """Detections in any number of images, by class id, kept in an unnamed file that ends with this object.

    Memory holds one part of them, and for a moment those of the class that is asked for. A part is sorted by class
    before it is written; all detections of an image are in the same part.
    """

    def __init__(self, images: Iterable[Mapping[str, Any]], folder: Path | None = None):
        """Take the detections of all images.

        Records hold raw VOC pixels divided by the size, so boxes times the size are raw pixels, without an offset of 1.

        Args:
            images: each has `image_id` (bytes), `size` (height, width in pixels), `boxes_yxyx` float [D, 4] in [0, 1],
                `scores` float32 [D] and `classes` int [D] from 1.
            folder: of the file; None: TMPDIR. OSError if there is no room.
        """
        self._folder = folder or tempfile.gettempdir()
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object)
        self._parts: list[dict[int, tuple[int, int]]] = []  # class id -> offset in bytes, number of rows
        ids: list[str] = []
        waiting: list[tuple[np.ndarray, np.ndarray]] = []  # class ids [D], rows [D]
        number = 0  # of rows in `waiting`
        for image in images:
            rows = np.zeros(len(image["scores"]), _ROW)
            rows["image"], rows["score"] = len(ids), image["scores"]
            rows["box_yxyx_px"] = image["boxes_yxyx"].astype(np.float64) * np.tile(image["size"], 2)
            waiting.append((np.asarray(image["classes"], np.int64), rows))
            ids.append(image["image_id"].decode())
            number += len(rows)
            if number >= _ROWS_OF_PART:
                self._write_part(waiting)
                waiting, number = [], 0
        if waiting:
            self._write_part(waiting)
        self._image_ids: np.ndarray = np.array(ids, dtype=np.object_)

    def _write_part(self, images: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        classes, rows = (np.concatenate(column) for column in zip(*images, strict=True))
        order = np.argsort(classes, kind="stable")
        class_ids, starts, counts = np.unique(classes[order], return_index=True, return_counts=True)
        segments = zip((self._file.tell() + starts * _ROW.itemsize).tolist(), counts.tolist(), strict=True)
        self._parts.append(dict(zip(class_ids.tolist(), segments, strict=True)))
        try:
            self._file.write(rows[order].tobytes())
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} for the detections", str(self._folder)) from error

    def _segment(self, offset: int, count: int) -> np.ndarray:
        self._file.seek(offset)
        return np.frombuffer(self._file.read(count * _ROW.itemsize), _ROW)

    def _detections_in(self, segments: Iterable[tuple[int, int]]) -> ClassDetections:
        rows = np.concatenate([self._segment(*segment) for segment in segments])
        return ClassDetections(self._image_ids[rows["image"]], rows["score"], rows["box_yxyx_px"])

    def __getitem__(self, class_id: int) -> ClassDetections:
        """Return the detections of a class, in the order of the images."""
        segments = [part[class_id] for part in self._parts if class_id in part]
        if not segments:
            raise KeyError(class_id)
        return self._detections_in(segments)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(set().union(*self._parts)))

    def __len__(self) -> int:
        """Return the number of classes that have a detection."""
        return len(set().union(*self._parts))

    def by_images(self) -> Iterator[dict[int, ClassDetections]]:
        """Yield all detections of some images by class id, part after part of the images."""
        for part in self._parts:
            yield {class_id: self._detections_in([segment]) for class_id, segment in part.items()}
