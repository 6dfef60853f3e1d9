"""What is known of a data set before any picture is read; `voc_sources` and `coco` are the two that read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LabelledObject:
    """One labelled object: `box_yxyx_px` holds ymin, xmin, ymax, xmax as the annotation means them.

    Of VOC these are pixels from 1, both ends inclusive; of COCO the box's edges, measured from the image's
    corner. They are finite, but nothing more is promised: a box may be inverted, have no area, or lie outside
    of the image.
    """

    name: str
    box_yxyx_px: tuple[float, float, float, float]
    difficult: bool
    truncated: bool


@dataclass(frozen=True)
class Annotation:
    """The objects of one image; `height` and `width` are in pixels, 0 where `path`, its file, does not tell."""

    image_id: str
    path: Path
    height: int
    width: int
    objects: tuple[LabelledObject, ...]


@dataclass(frozen=True)
class Source:
    """An annotation and its image file; `where` names the annotation to the user."""

    where: str
    annotation: Annotation
    image_path: Path


@dataclass(frozen=True)
class Split:
    """The images that become `train-*` or `val-*`, in order.

    `name` tells the user where they come from, `origin` tells `dataset.json`, and `skipped` says why others were
    left out, a line for each.
    """

    name: str
    origin: Mapping[str, Any]
    sources: tuple[Source, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class DataSet:
    """All that is converted together: the splits by prefix ('train', 'val'), and what `dataset.json` says of them.

    The name at index i has class id i + 1.
    """

    class_names: tuple[str, ...]
    origin: Mapping[str, Any]
    splits: Mapping[str, Split]
