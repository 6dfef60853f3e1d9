"""Makes a record of an image and its annotation, with remarks on what is wrong in the annotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from dataset.records.schema import RecordObject, serialize
from dataset.sources import pictures
from dataset.sources.annotations import LabelledObject, Source

CLIPPED = "clipped"
ZERO_AREA = "zero area"
INVERTED = "inverted"
OUTSIDE = "outside the image"
SIZE_DIFFERS = "size differs"


@dataclass(frozen=True)
class Remark:
    """A fault in an annotation: one of the reasons above, and a line of text that names file and object."""

    reason: str
    text: str


@dataclass(frozen=True)
class Example:
    """A serialized record, its objects, remarks, and what was done to the picture ('' for nothing)."""

    serialized: bytes
    objects: tuple[LabelledObject, ...]
    remarks: tuple[Remark, ...]
    picture_note: str


@dataclass
class _Cleaned:
    """The objects to keep, with boxes clipped to the image, and the remarks on all objects."""

    objects: list[LabelledObject] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


def make_example(source: Source, class_ids: Mapping[str, int]) -> Example:
    """Read the picture, clip or drop bad boxes, and serialize the record.

    A record's boxes are the annotation's raw values divided by the size of the decoded picture; the size in the
    annotation may be wrong. `class_ids` must have the name of each object.

    Raises:
        pictures.PictureError: the picture is missing or does not decode; the message names it.
    """
    annotation = source.annotation
    picture = pictures.read_picture(source.image_path, (annotation.height, annotation.width))
    cleaned = _clean(source, picture.height, picture.width)
    size = np.array([picture.height, picture.width] * 2, np.float64)
    objects = [
        RecordObject(each.box_yxyx_px / size, class_ids[each.name], each.name, each.difficult, each.truncated)
        for each in cleaned.objects
    ]
    filename = annotation.image_id + source.image_path.suffix
    serialized = serialize(picture.encoded, filename, picture.height, picture.width, objects)
    return Example(serialized, tuple(cleaned.objects), tuple(cleaned.remarks), picture.note)


def _clean(source: Source, height: int, width: int) -> _Cleaned:
    annotation = source.annotation
    cleaned = _Cleaned()
    if annotation.height and annotation.width and (annotation.height, annotation.width) != (height, width):
        annotated = f"the size is given as {annotation.width}x{annotation.height}"
        cleaned.remarks.append(
            Remark(SIZE_DIFFERS, f"{source.where}: {annotated}, but the image is {width}x{height}, which is used")
        )
    for number, labelled in enumerate(annotation.objects, start=1):
        box, reason = clip_box_px(labelled.box_yxyx_px, height, width)
        if reason:
            ymin, xmin, ymax, xmax = labelled.box_yxyx_px
            corners = f"xmin {xmin:g} ymin {ymin:g} xmax {xmax:g} ymax {ymax:g} in {width}x{height}"
            outcome = reason if reason == CLIPPED else f"{reason}, dropped"
            text = f"{source.where}: object {number} ({labelled.name}): {corners}: {outcome}"
            cleaned.remarks.append(Remark(reason, text))
        if reason in ("", CLIPPED):
            cleaned.objects.append(replace(labelled, box_yxyx_px=box))
    return cleaned


def clip_box_px(
    box_yxyx_px: tuple[float, float, float, float], height: int, width: int
) -> tuple[tuple[float, float, float, float], str]:
    """Clip a box of raw values to [0, height] and [0, width]; return it with the reason for a remark.

    The reason is '' for a good box, CLIPPED, or, for a box to drop, INVERTED, ZERO_AREA or OUTSIDE.
    VOC counts pixels from 1, but tools that count from 0 write a 0, which is valid here too. COCO's edges run from 0
    to the image's size.
    """
    ymin, xmin, ymax, xmax = box_yxyx_px
    if ymax < ymin or xmax < xmin:
        return box_yxyx_px, INVERTED
    if ymax == ymin or xmax == xmin:
        return box_yxyx_px, ZERO_AREA
    clipped = (max(ymin, 0.0), max(xmin, 0.0), min(ymax, float(height)), min(xmax, float(width)))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return clipped, OUTSIDE
    return clipped, "" if clipped == box_yxyx_px else CLIPPED
