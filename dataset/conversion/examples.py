"""Makes a record of an image and its annotation, with remarks on what is wrong in the annotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from dataset.records.schema import RecordObject, serialize
from dataset.sources import pictures
from dataset.sources.annotations import LabelledObject, Source
from preprocessing.views import MOST_CUT, tile_windows
from utility.config.settings import ViewConfig

# The summary of a converted split, for `dataset.json` and for the log.

BY_SHARD = ("images", "with_objects", "with_objects_not_difficult")  # what is counted in each shard
_MAX_DETAILS = 20  # lines on skipped images and remarks in the log


@dataclass
class Tally:
    """The counts of one split, updated image by image."""

    images: int = 0
    images_without_objects: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    difficult: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    remarks: list[Remark] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    by_shard: dict[str, Counter[int]] = field(default_factory=lambda: {key: Counter() for key in BY_SHARD})

    def add(self, example: Example, shard: int) -> None:
        """Count one more record, in the shard of this number."""
        self.images += 1
        counts = (True, bool(example.objects), not all(labelled.difficult for labelled in example.objects))
        for key, counted in zip(BY_SHARD, counts, strict=True):
            self.by_shard[key][shard] += counted
        self.images_without_objects += not example.objects
        self.objects.update(labelled.name for labelled in example.objects)
        self.difficult.update(labelled.name for labelled in example.objects if labelled.difficult)
        self.pictures.update([example.picture_note] if example.picture_note else [])
        self.remarks.extend(example.remarks)

    def summary(self, class_names: Sequence[str], shards: int) -> dict[str, Any]:
        """Return the counts for `dataset.json`, with every class, in the order of class ids, and every shard."""
        reasons = Counter(remark.reason for remark in self.remarks)
        clipped, size_differs = reasons.pop(CLIPPED, 0), reasons.pop(SIZE_DIFFERS, 0)
        return {
            "images": self.images,
            "images_without_objects": self.images_without_objects,
            "images_by_shard": {key: [counts[n] for n in range(shards)] for key, counts in self.by_shard.items()},
            "objects": {name: self.objects[name] for name in class_names},
            "difficult": {name: self.difficult[name] for name in class_names},
            "dropped": dict(sorted(reasons.items())),
            "clipped": clipped,
            "size_differs": size_differs,
            "pictures": dict(sorted(self.pictures.items())),
            "skipped": self.skipped,
            "remarks": sorted(remark.text for remark in self.remarks),
        }


def lines(prefix: str, summary: dict[str, Any], *, all_remarks: bool) -> list[str]:
    """Return a split's summary as lines of text: its counts, then the skipped images and the remarks."""
    counts = (
        f"{prefix}: {summary['images']} images, {summary['images_without_objects']} of them without objects; "
        f"{sum(summary['objects'].values())} objects, {sum(summary['difficult'].values())} of them difficult"
    )
    faults = {
        **{f"boxes dropped, {reason}": count for reason, count in summary["dropped"].items()},
        "boxes clipped": summary["clipped"],
        "wrong image sizes": summary["size_differs"],
        **{f"pictures {note}": count for note, count in summary["pictures"].items()},
        "images skipped": len(summary["skipped"]),
    }
    details = summary["skipped"] + summary["remarks"]
    logged = details if all_remarks else details[:_MAX_DETAILS]
    more = [f"    and {len(details) - len(logged)} more in dataset.json"] if len(details) > len(logged) else []
    return [
        counts,
        *(f"  {fault}: {count}" for fault, count in faults.items() if count),
        *(f"    {line}" for line in logged),
        *more,
    ]


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


def make_examples(source: Source, class_ids: Mapping[str, int], views: ViewConfig | None = None) -> list[Example]:
    """Read the picture, clip or drop bad boxes, and serialize the record, or one for each tile.

    A record's boxes are the annotation's raw values divided by the size of the picture; the size in the annotation may
    be wrong. `class_ids` must have the name of each object. Without `views` a picture is one record, at its own size.
    The first of several tiles has the remarks on the whole picture.

    Raises:
        pictures.PictureError: the picture is missing or does not decode; the message names it.
    """
    views, annotation = views or ViewConfig(), source.annotation
    max_side = views.max_side if views.tile_size is None else None
    picture = pictures.read_picture(source.image_path, (annotation.height, annotation.width), max_side)
    cleaned = _clean(source, picture.height, picture.width)
    if views.tile_size is None:
        records = [_Record(picture.encoded, annotation.image_id, (picture.height, picture.width), cleaned.objects)]
    else:
        records = _tiles(picture, annotation.image_id, cleaned.objects, views)
    suffix = source.image_path.suffix
    first, *others = (Example(each.serialized(suffix, class_ids), tuple(each.objects), (), "") for each in records)
    return [replace(first, remarks=tuple(cleaned.remarks), picture_note=picture.note), *others]


class _Record(NamedTuple):
    """A JPEG to write as a record, with its objects; `size` is its height and width in pixels before reduction."""

    encoded: bytes
    image_id: str
    size: tuple[int, int]
    objects: Sequence[LabelledObject]

    def serialized(self, suffix: str, class_ids: Mapping[str, int]) -> bytes:
        divisor = np.array([*self.size, *self.size], np.float64)
        objects = [
            RecordObject(each.box_yxyx_px / divisor, class_ids[each.name], each.name, each.difficult, each.truncated)
            for each in self.objects
        ]
        return serialize(self.encoded, self.image_id + suffix, *self.size, objects)


def _tiles(
    picture: pictures.Picture, image_id: str, objects: Sequence[LabelledObject], views: ViewConfig
) -> list[_Record]:
    windows = tile_windows(picture.height, picture.width, views.tile_size or 0, views.tile_overlap)
    encoded = pictures.cut_windows(picture, windows, views.max_side)
    return [
        _Record(jpeg, f"{image_id}_{ymin}_{xmin}", (ymax - ymin, xmax - xmin), objects_in(window, objects))
        for jpeg, window in zip(encoded, windows.tolist(), strict=True)
        for ymin, xmin, ymax, xmax in [window]
    ]


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
            is_cut = sides.prod() < (1 - MOST_CUT) * (box[2:] - box[:2]).prod()
            box_yxyx_px = tuple((shown - np.tile(start, 2)).tolist())
            truncated = each.truncated or tuple(shown) != each.box_yxyx_px
            found.append(
                replace(each, box_yxyx_px=box_yxyx_px, difficult=each.difficult or bool(is_cut), truncated=truncated)
            )
    return found


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
