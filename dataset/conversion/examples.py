"""Makes the records of a picture and its annotation, with remarks on what is wrong in the annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dataset.records.schema import RecordObject, serialize
from dataset.sources import pictures
from dataset.sources.annotations import Annotation, LabelledObject, Source
from preprocessing.views import is_cut, tile_windows
from utility.config.settings import ViewConfig

# what is done with a box, and stays
CLIPPED = "clipped"
INVERTED = "corners swapped"
# why one is dropped
ZERO_AREA = "zero area"
OUTSIDE = "outside the image"
TWICE = "the same box twice"
# a picture of another size than its annotation says
SCALED = "scaled"
SIZE_DIFFERS = "size differs"
MENDED = frozenset({CLIPPED, INVERTED})


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

    records: list[Record]  # none where all boxes were broken: as background, the picture would teach a mistake
    remarks: list[Remark]
    picture_note: str


def make_records(source: Source, class_ids: Mapping[str, int], views: ViewConfig | None = None) -> Converted:
    """Read the picture, mend or drop bad boxes, and serialize the record, or one for each tile.

    A record's boxes are the annotation's raw values divided by the size of the picture. If the annotation gives another
    size of the same shape, the picture was resized after labelling, and the boxes are scaled with it. `class_ids` must
    have the name of each object. Without `views` a picture is one record, at its own size.

    Raises:
        pictures.PictureError: the picture is missing or does not decode; the message names it.
    """
    views, annotation, remarks = views or ViewConfig(), source.annotation, []
    max_side = views.max_side if views.tile_size is None else None
    picture = pictures.read_picture(source.image_path, (annotation.height, annotation.width), max_side)
    height, width = picture.height, picture.width
    labelled = annotation.objects
    if annotation.height and annotation.width and (annotation.height, annotation.width) != (height, width):
        text = f"{source.where}: the size is given as {annotation.width}x{annotation.height}, but the image is"
        if was_resized(annotation, height, width):
            factors = np.tile([height / annotation.height, width / annotation.width], 2)
            labelled = tuple(replace(each, box_yxyx_px=tuple(factors * each.box_yxyx_px)) for each in labelled)
            remarks.append(Remark(SCALED, f"{text} {width}x{height}: its boxes are scaled to that"))
        else:
            remarks.append(Remark(SIZE_DIFFERS, f"{text} {width}x{height}, which is used: its boxes may be off"))
    objects: list[LabelledObject] = []
    for number, each in enumerate(labelled, start=1):
        box, reasons = mend_box_px(each.box_yxyx_px, height, width)
        mended, is_dropped = replace(each, box_yxyx_px=box), not MENDED.issuperset(reasons)
        if not is_dropped and mended in objects:
            reasons, is_dropped = [TWICE], True
        for reason in reasons:
            ymin, xmin, ymax, xmax = each.box_yxyx_px
            corners = f"xmin {xmin:g} ymin {ymin:g} xmax {xmax:g} ymax {ymax:g} in {width}x{height}"
            outcome = reason if reason in MENDED else f"{reason}, dropped"
            remarks.append(Remark(reason, f"{source.where}: object {number} ({each.name}): {corners}: {outcome}"))
        if not is_dropped:
            objects.append(mended)
    if labelled and not objects:
        return Converted([], remarks, picture.note)

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


def was_resized(annotation: Annotation, height: int, width: int) -> bool:
    """Tell whether a picture looks resized after labelling: it has the annotated shape, which holds all of the boxes.

    Sides of the resized picture are rounded, so one of them may be off by a pixel.
    """
    by_height, by_width = height / annotation.height, width / annotation.width
    has_shape = min(abs(annotation.width * by_height - width), abs(annotation.height * by_width - height)) <= 1
    far = np.array([each.box_yxyx_px for each in annotation.objects]).reshape(-1, 4).max(axis=0, initial=0)
    return has_shape and max(far[::2]) <= annotation.height and max(far[1::2]) <= annotation.width


def mend_box_px(
    box_yxyx_px: tuple[float, float, float, float], height: int, width: int
) -> tuple[tuple[float, float, float, float], list[str]]:
    """Put the corners of a box in order and clip it to [0, height] and [0, width]; return it with reasons for remarks.

    There is none for a good box, INVERTED and CLIPPED for what was mended, and, for a box to drop, ZERO_AREA or
    OUTSIDE. VOC counts pixels from 1, but tools that count from 0 write a 0, which is valid here too. COCO's edges run
    from 0 to the image's size.
    """
    y, x, other_y, other_x = box_yxyx_px
    ordered = (min(y, other_y), min(x, other_x), max(y, other_y), max(x, other_x))
    reasons = [INVERTED] if ordered != box_yxyx_px else []
    if ordered[2] == ordered[0] or ordered[3] == ordered[1]:
        return ordered, [ZERO_AREA]
    clipped = (max(ordered[0], 0.0), max(ordered[1], 0.0), min(ordered[2], height), min(ordered[3], width))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return clipped, [OUTSIDE]
    return clipped, reasons + [CLIPPED] * (clipped != ordered)


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
