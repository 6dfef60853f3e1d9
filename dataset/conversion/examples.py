"""Makes the records of a picture and its annotation, with remarks on what is wrong in the annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dataset.records.schema import RecordObject, serialize
from dataset.sources import pictures
from dataset.sources.annotations import LabelledObject, Source
from preprocessing.views import is_cut, tile_windows
from utility.config.settings import ViewConfig

CLIPPED = "clipped"
ZERO_AREA = "zero area"
INVERTED = "inverted"
OUTSIDE = "outside the image"
SIZE_DIFFERS = "size differs"


class Remark(NamedTuple):
    """A fault in an annotation: one of the reasons above, and a line of text that names file and object."""

    reason: str
    text: str


class Record(NamedTuple):
    """A serialized record, and the objects in it."""

    serialized: bytes
    objects: Sequence[LabelledObject]


class Converted(NamedTuple):
    """The records of a picture, remarks on its annotation, and what was done to the picture ('' for nothing)."""

    records: list[Record]
    remarks: list[Remark]
    picture_note: str


def make_records(source: Source, class_ids: Mapping[str, int], views: ViewConfig | None = None) -> Converted:
    """Read the picture, clip or drop bad boxes, and serialize the record, or one for each tile.

    A record's boxes are the annotation's raw values divided by the size of the picture; the size in the annotation may
    be wrong. `class_ids` must have the name of each object. Without `views` a picture is one record, at its own size.

    Raises:
        pictures.PictureError: the picture is missing or does not decode; the message names it.
    """
    views, annotation, remarks = views or ViewConfig(), source.annotation, []
    max_side = views.max_side if views.tile_size is None else None
    picture = pictures.read_picture(source.image_path, (annotation.height, annotation.width), max_side)
    height, width = picture.height, picture.width
    if annotation.height and annotation.width and (annotation.height, annotation.width) != (height, width):
        annotated = f"the size is given as {annotation.width}x{annotation.height}"
        text = f"{source.where}: {annotated}, but the image is {width}x{height}, which is used"
        remarks.append(Remark(SIZE_DIFFERS, text))
    objects = []
    for number, labelled in enumerate(annotation.objects, start=1):
        box, reason = clip_box_px(labelled.box_yxyx_px, height, width)
        if reason:
            ymin, xmin, ymax, xmax = labelled.box_yxyx_px
            corners = f"xmin {xmin:g} ymin {ymin:g} xmax {xmax:g} ymax {ymax:g} in {width}x{height}"
            outcome = reason if reason == CLIPPED else f"{reason}, dropped"
            text = f"{source.where}: object {number} ({labelled.name}): {corners}: {outcome}"
            remarks.append(Remark(reason, text))
        if reason in ("", CLIPPED):
            objects.append(replace(labelled, box_yxyx_px=box))

    def record(encoded: bytes, image_id: str, height: int, width: int, objects: Sequence[LabelledObject]) -> Record:
        found = [
            RecordObject(
                np.divide(each.box_yxyx_px, [height, width, height, width]),
                class_ids[each.name],
                each.name,
                each.difficult,
                each.truncated,
            )
            for each in objects
        ]
        return Record(serialize(encoded, image_id + source.image_path.suffix, height, width, found), objects)

    if views.tile_size is None:
        records = [record(picture.encoded, annotation.image_id, height, width, objects)]
    else:
        windows = tile_windows(height, width, views.tile_size, views.tile_overlap)
        encoded = pictures.cut_windows(picture, windows, views.max_side)
        records = [
            record(jpeg, f"{annotation.image_id}_{ymin}_{xmin}", ymax - ymin, xmax - xmin, objects_in(window, objects))
            for jpeg, window in zip(encoded, windows.tolist(), strict=True)
            for ymin, xmin, ymax, xmax in [window]
        ]
    return Converted(records, remarks, picture.note)


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


def objects_in(window_px: Sequence[int], objects: Sequence[LabelledObject]) -> list[LabelledObject]:
    """Return the objects of a picture that a tile shows, their boxes clipped to the tile and in its coordinates.

    `window_px` is ymin, xmin, ymax, xmax of the tile. An object of which it shows too little is difficult there.
    """
    start, end = np.split(np.array(window_px, np.float64), 2)
    found = []
    for each in objects:
        box = np.array(each.box_yxyx_px)
        shown = np.concatenate([np.maximum(box[:2], start), np.minimum(box[2:], end)])
        sides = shown[2:] - shown[:2]
        if (sides > 0).all():
            difficult = each.difficult or bool(is_cut(sides.prod(), (box[2:] - box[:2]).prod()))
            truncated = each.truncated or tuple(shown) != each.box_yxyx_px
            box_yxyx_px = tuple((shown - np.tile(start, 2)).tolist())
            found.append(replace(each, box_yxyx_px=box_yxyx_px, difficult=difficult, truncated=truncated))
    return found
