"""Detections as other programs take them over: the objects of a picture with their class names, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_CORNERS = ("ymin", "xmin", "ymax", "xmax")


def boxes_px(found: dict[str, np.ndarray]) -> np.ndarray:
    """Return the boxes of a picture, as `net.estimator.prediction.detect` yields it, in pixels as in results files."""
    return found["boxes_yxyx"] * np.tile(found["size"], 2)


def objects(found: dict[str, np.ndarray], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the objects of a picture, as `detect` yields it, the highest score first, ready for JSON.

    Each has `class`, its name; `score` in [0, 1] and `box` with xmin, ymin, xmax, ymax in pixels of the picture.
    """
    rows = zip(boxes_px(found), found["scores"], found["classes"], strict=True)
    return [
        {"class": class_names[class_id - 1], "score": round(float(score), 6), "box": _box(corners)}
        for corners, score, class_id in rows
    ]


def _box(corners_px: np.ndarray) -> dict[str, float]:
    rounded = {name: round(float(value), 2) for name, value in zip(_CORNERS, corners_px, strict=True)}
    return {name: rounded[name] for name in ("xmin", "ymin", "xmax", "ymax")}
