"""Boxes of a whole data set that look as if they were written in another format."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dataset.sources.annotations import Annotation, LabelledObject, Source

_LEAST_AS_CORNERS = 0.95  # of the boxes; in COCO, few have a width above x and a height above y
_LEAST_BEYOND = 0.25  # of the boxes; of corners read as sizes, about two thirds reach beyond the image
_FAR = 1.05  # of the image's side


def refuse_fractions(sources: Iterable[Source]) -> None:
    """Refuse boxes that are fractions of the image instead of pixels.

    They are taken for fractions where half of the images with objects, or more, have all of their boxes within [0, 1],
    and these are not whole numbers: a box of a single pixel can be 0, 0, 1, 1.

    Raises:
        ValueError: names the first such box.
    """
    labelled = [source for source in sources if source.annotation.objects]
    within = [source for source in labelled if all(map(_is_within_a_pixel, source.annotation.objects))]
    broken = [(source, item) for source in within for item in source.annotation.objects if not _is_whole(item)]
    if not broken or 2 * len(within) < len(labelled):
        return
    source, item = broken[0]
    ymin, xmin, ymax, xmax = item.box_yxyx_px
    raise ValueError(
        f"{source.where}: the box xmin {xmin:g} ymin {ymin:g} xmax {xmax:g} ymax {ymax:g} ({item.name}) looks like "
        f"fractions of the image, as do all boxes of {len(within)} of {len(labelled)} images with objects: multiply "
        "them by the image's width and height, for boxes are in pixels"
    )


def _is_within_a_pixel(item: LabelledObject) -> bool:
    return min(item.box_yxyx_px) >= 0 and max(item.box_yxyx_px) <= 1


def _is_whole(item: LabelledObject) -> bool:
    return all(side == int(side) for side in item.box_yxyx_px)


def corners_for_sizes(where: str, annotations: Collection[Annotation]) -> tuple[str, ...]:
    """Return a remark, in a tuple, if boxes read as x, y, width, height look like x1, y1, x2, y2; else ().

    So it looks where nearly all boxes fit into their image as corners, and many reach far beyond it as x + width and
    y + height. Images whose size the annotation does not give are left out.
    """
    sized = [(each, item) for each in annotations if each.height and each.width for item in each.objects]
    fitting = sum(_fits_as_corners(each, item) for each, item in sized)
    beyond = sum(_is_far_beyond(each, item) for each, item in sized)
    if not sized or fitting < _LEAST_AS_CORNERS * len(sized) or beyond < _LEAST_BEYOND * len(sized):
        return ()
    return (
        f"{where}: the boxes look like x1, y1, x2, y2, but COCO's are x, y, width, height: read so, {beyond} of "
        f"{len(sized)} reach far beyond their image, and as corners {fitting} fit; if so, write x2 - x1 and y2 - y1",
    )


def _fits_as_corners(annotation: Annotation, item: LabelledObject) -> bool:
    ymin, xmin, ymax, xmax = item.box_yxyx_px
    return ymin <= ymax - ymin <= annotation.height and xmin <= xmax - xmin <= annotation.width


def _is_far_beyond(annotation: Annotation, item: LabelledObject) -> bool:
    _, _, ymax, xmax = item.box_yxyx_px
    return ymax > _FAR * annotation.height or xmax > _FAR * annotation.width
