"""The annotations and splits of a data set, as label formats such as `voc` and `coco` read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAIN = "train"  # the two splits of a data set, and the prefixes of their record files
VALIDATION = "val"


@dataclass(frozen=True)
class LabelledObject:
    """One labelled object; `box_yxyx_px` holds ymin, xmin, ymax, xmax with the annotation's raw values.

    VOC counts pixels from 1, and both ends are inside the box; COCO has the box's edges, measured from the image's
    corner, and so should a format with fractions of the image, multiplied by its size. Values are finite, but a box may
    be inverted, have no area, or lie outside the image.
    """

    name: str
    box_yxyx_px: tuple[float, float, float, float]
    difficult: bool
    truncated: bool
    rotated: bool = False  # the box is the one around a rectangle that was turned


def around_turned(box_yxyx: tuple[float, float, float, float], degrees: float) -> tuple[float, float, float, float]:
    """Return the box around a box that is turned about its centre, as CVAT's attribute `rotation` has it."""
    ymin, xmin, ymax, xmax = box_yxyx
    cosine, sine = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    half_height = ((ymax - ymin) * cosine + (xmax - xmin) * sine) / 2
    half_width = ((xmax - xmin) * cosine + (ymax - ymin) * sine) / 2
    y, x = (ymin + ymax) / 2, (xmin + xmax) / 2
    edges = y - half_height, x - half_width, y + half_height, x + half_width
    return edges[0], edges[1], edges[2], edges[3]


@dataclass(frozen=True)
class Annotation:
    """The objects of one image; `height` and `width` are in pixels, 0 if the file `path` does not give them."""

    image_id: str
    path: Path
    height: int
    width: int
    objects: tuple[LabelledObject, ...]


@dataclass(frozen=True)
class Source:
    """An annotation and its image file; `where` names the annotation in messages."""

    where: str
    annotation: Annotation
    image_path: Path


@dataclass(frozen=True)
class Split:
    """The images of the training or validation split, in order.

    `name` describes their origin in the log, `origin` in `dataset.json`; `skipped` tells why others are left out.
    """

    name: str
    origin: Mapping[str, Any]
    sources: tuple[Source, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class DataSet:
    """A data set to convert, with its splits by prefix ('train', 'val').

    The class name at index i has class id i + 1. `origin` is a part of `dataset.json`; `remarks` has a line for each
    thing in all of the annotations that is probably a mistake, `notes` for each that need not be one.
    """

    class_names: tuple[str, ...]
    origin: Mapping[str, Any]
    splits: Mapping[str, Split]
    split_flags: Mapping[str, str]  # by prefix, the flag that names its images
    pixel_extent: float  # 1 where both corners of a box are pixels of it, as in VOC; 0 where they are edges
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
