"""One VOC image with its annotation becomes one record; whatever is wrong with it is remarked upon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dataset import pictures, records
from dataset.voc import VocAnnotation, VocObject

CLIPPED = "clipped"
ZERO_AREA = "zero area"
INVERTED = "inverted"
OUTSIDE = "outside the image"
SIZE_DIFFERS = "size differs"


@dataclass(frozen=True)
class Source:
    """An annotation and its image file; `where` names the annotation to the user, relative to VOCROOT."""

    where: str
    annotation: VocAnnotation
    image_path: Path


@dataclass(frozen=True)
class Remark:
    """Something wrong with an annotation: one of the reasons above, and a line that names file and object."""

    reason: str
    text: str


@dataclass(frozen=True)
class VocExample:
    """A serialized record, its objects, what was wrong, and what was done to the picture, or ''."""

    serialized: bytes
    objects: tuple[VocObject, ...]
    remarks: tuple[Remark, ...]
    picture_note: str


@dataclass
class _Cleaned:
    """The objects that are kept, their boxes in pixels (raw VOC values), and the remarks on all."""

    objects: list[VocObject] = field(default_factory=list)
    boxes_yxyx_px: list[tuple[float, ...]] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


def make_example(source: Source, class_ids: Mapping[str, int]) -> VocExample:
    """Read the picture, clip or drop bad boxes, and serialize.

    A record's boxes are VOC's raw values over the size of the picture as it decodes; `<size>` is not trusted.
    `class_ids` has every name of the annotation.

    Raises:
        pictures.PictureError: the picture is missing or does not decode; the message names it.
    """
    annotation = source.annotation
    picture = pictures.read_picture(source.image_path, (annotation.height, annotation.width))
    cleaned = _clean(source, picture.height, picture.width)
    size = np.array([picture.height, picture.width] * 2, np.float64)
    serialized = records.serialize(
        image_encoded=picture.encoded,
        filename=source.image_path.name,
        height=picture.height,
        width=picture.width,
        boxes_yxyx=np.array(cleaned.boxes_yxyx_px, np.float64).reshape(-1, 4) / size,
        labels=[class_ids[voc_object.name] for voc_object in cleaned.objects],
        label_texts=[voc_object.name for voc_object in cleaned.objects],
        difficult=[voc_object.difficult for voc_object in cleaned.objects],
        truncated=[voc_object.truncated for voc_object in cleaned.objects],
    )
    return VocExample(serialized, tuple(cleaned.objects), tuple(cleaned.remarks), picture.note)


def _clean(source: Source, height: int, width: int) -> _Cleaned:
    annotation = source.annotation
    cleaned = _Cleaned()
    if annotation.height and annotation.width and (annotation.height, annotation.width) != (height, width):
        given = f"<size> is {annotation.width}x{annotation.height}"
        cleaned.remarks.append(
            Remark(SIZE_DIFFERS, f"{source.where}: {given}, but the image is {width}x{height}: used the image's")
        )
    for number, voc_object in enumerate(annotation.objects, start=1):
        box, reason = clip_box_px(voc_object.box_yxyx_px, height, width)
        if reason:
            ymin, xmin, ymax, xmax = voc_object.box_yxyx_px
            what = f"xmin {xmin:g} ymin {ymin:g} xmax {xmax:g} ymax {ymax:g} in {width}x{height}"
            done = reason if reason == CLIPPED else f"{reason}, dropped"
            text = f"{source.where}: object {number} ({voc_object.name}): {what}: {done}"
            cleaned.remarks.append(Remark(reason, text))
        if reason in ("", CLIPPED):
            cleaned.objects.append(voc_object)
            cleaned.boxes_yxyx_px.append(box)
    return cleaned


def clip_box_px(
    box_yxyx_px: tuple[float, float, float, float], height: int, width: int
) -> tuple[tuple[float, float, float, float], str]:
    """Clip a box of raw VOC values to [0, height] and [0, width], and say what is wrong with it.

    The reason is '' for a good box, CLIPPED, or INVERTED, ZERO_AREA or OUTSIDE for one to drop.
    VOC counts from 1, but 0 stands too: tools that count from 0 write it, and it is in [0, 1] of the image.
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
