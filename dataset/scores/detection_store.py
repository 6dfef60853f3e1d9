"""Detections in pixels by class, and the unnamed file that holds those of any number of images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ClassDetections:
    """Detections of one class in any number of images, in the order of the results file.

    `image_ids` is an object array [D] of str, because numpy's own gives every id the room of the longest; `scores`
    float64 [D]; `boxes_yxyx_px` float64 [D, 4] in pixels, 1-based and inclusive. Arguments are converted to these.
    """

    image_ids: np.ndarray
    scores: np.ndarray
    boxes_yxyx_px: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_ids", np.asarray(self.image_ids, dtype=np.object_))
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        object.__setattr__(self, "boxes_yxyx_px", np.asarray(self.boxes_yxyx_px, dtype=np.float64).reshape(-1, 4))

    def __len__(self) -> int:
        return len(self.scores)


NO_DETECTIONS = ClassDetections(np.zeros(0), np.zeros(0), np.zeros((0, 4)))

_ROW = np.dtype([("image", np.int32), ("class_id", np.int32), ("score", np.float32), ("box_yxyx", np.float32, 4)])
_IMAGES_AT_ONCE = 500  # of `by_images`


class StoredDetections(Mapping[int, ClassDetections]):
    """Detections in any number of images, by class id, kept in an unnamed file that ends with this object.

    Memory holds the detections of one image, or those of the class that is asked for.
    """

    def __init__(self, images: Iterable[Mapping[str, Any]], folder: Path):
        """Take the detections of all images, into a file in `folder`; OSError if there is no room.

        Each image has `image_id` (bytes), `size` (height, width in pixels), `boxes_yxyx` float32 [D, 4] in [0, 1],
        `scores` float32 [D] and `classes` int [D] from 1.
        """
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object)
        self._class_ids: set[int] = set()
        ids: list[str] = []
        sizes: list[np.ndarray] = []
        for image in images:
            rows = np.zeros(len(image["scores"]), _ROW)
            rows["image"], rows["class_id"] = len(ids), image["classes"]
            rows["score"], rows["box_yxyx"] = image["scores"], image["boxes_yxyx"]
            try:
                self._file.write(rows.tobytes())
                self._file.flush()
            except OSError as error:
                raise OSError(error.errno, f"{error.strerror} for the detections", str(folder)) from error
            ids.append(image["image_id"].decode())
            sizes.append(image["size"])
            self._class_ids.update(rows["class_id"].tolist())
        self._image_ids, self._sizes = np.array(ids, dtype=np.object_), np.array(sizes).reshape(-1, 2)
        self._rows = np.memmap(self._file, _ROW, "r") if self._class_ids else np.zeros(0, _ROW)

    def _of_class(self, class_id: int, rows: np.ndarray) -> ClassDetections:
        rows = rows[rows["class_id"] == class_id]
        # records hold raw VOC pixels divided by the size, so boxes times the size are raw pixels, without a "+ 1"
        boxes_px = rows["box_yxyx"].astype(np.float64) * np.tile(self._sizes[rows["image"]], 2)
        return ClassDetections(self._image_ids[rows["image"]], rows["score"], boxes_px)

    def __getitem__(self, class_id: int) -> ClassDetections:
        """Return the detections of a class, in the order of the images."""
        if class_id not in self._class_ids:
            raise KeyError(class_id)
        return self._of_class(class_id, self._rows)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._class_ids))

    def __len__(self) -> int:
        return len(self._class_ids)

    def by_images(self) -> Iterator[dict[int, ClassDetections]]:
        """Yield all detections of some images by class id, one part of the images after another."""
        for first in range(0, len(self._image_ids), _IMAGES_AT_ONCE):
            start, end = np.searchsorted(self._rows["image"], [first, first + _IMAGES_AT_ONCE])
            yield {class_id: self._of_class(class_id, self._rows[start:end]) for class_id in self}
