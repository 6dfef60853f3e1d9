"""What looks wrong in a whole data set: boxes of another format, names and pictures twice, classes without objects."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dataset.sources import labels
from dataset.sources.annotations import TRAIN, VALIDATION, Annotation, DataSet, LabelledObject, Source, Split
from utility.errors import UserError

_LEAST_AS_CORNERS = 0.95  # of the boxes; in COCO, few have a width above x and a height above y
_LEAST_BEYOND = 0.25  # of the boxes; of corners read as sizes, about two thirds reach beyond the image
_FAR = 1.05  # of the image's side
_MOST_FAR, _MOST_FAR_SHARE = 2, 0.02  # boxes that reach far beyond the image, in a data set where nothing is wrong
_MOST_NAMES = 20  # in a message


def reviewed(data: DataSet) -> DataSet:
    """Return a data set with remarks on what looks wrong in it, and notes on names alike and classes without objects.

    No picture is decoded; files are compared byte by byte where a training picture and a validation picture have the
    same size.

    Raises:
        UserError: the boxes are fractions of the image.
    """
    sources = [source for split in data.splits.values() for source in split.sources]
    refuse_fractions(sources)
    counts = Counter(dict.fromkeys(data.class_names, 0))
    first: dict[str, str] = {}
    for source in sources:
        for item in source.annotation.objects:
            counts[item.name] += 1
            first.setdefault(item.name, source.where)
    remarks = (*(data.remarks or boxes_far_beyond(sources)), *pictures_in_both(data.splits))
    notes = (*labels.look_alikes(counts, first), *classes_without_objects(data))
    return replace(data, remarks=remarks, notes=notes)


def refuse_fractions(sources: Iterable[Source]) -> None:
    """Refuse boxes that are fractions of the image instead of pixels.

    They are taken for fractions where half of the images with objects, or more, have all of their boxes within [0, 1],
    and these are not whole numbers: a box of a single pixel can be 0, 0, 1, 1.

    Raises:
        UserError: names the first such box.
    """
    labelled = [source for source in sources if source.annotation.objects]
    within = [source for source in labelled if all(map(_is_within_a_pixel, source.annotation.objects))]
    broken = [(source, item) for source in within for item in source.annotation.objects if not _is_whole(item)]
    if not broken or 2 * len(within) < len(labelled):
        return
    source, item = broken[0]
    ymin, xmin, ymax, xmax = item.box_yxyx_px
    raise UserError(
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


def boxes_far_beyond(sources: Iterable[Source]) -> tuple[str, ...]:
    """Return a remark, in a tuple, if more than a few boxes reach far beyond their image; else ().

    Images whose size the annotation does not give are left out.
    """
    count, broken = 0, []
    for source in sources:
        each = source.annotation
        if each.height and each.width:
            count += len(each.objects)
            broken += [(source, item) for item in each.objects if _reaches_far(each, item)]
    if len(broken) <= max(_MOST_FAR, _MOST_FAR_SHARE * count):
        return ()
    source, item = broken[0]
    ymin, xmin, ymax, xmax = item.box_yxyx_px
    return (
        f"{len(broken)} of {count} boxes reach far beyond their image, the first in {source.where}: xmin {xmin:g} ymin "
        f"{ymin:g} xmax {xmax:g} ymax {ymax:g} in {source.annotation.width}x{source.annotation.height} ({item.name}); "
        "they will be clipped: look whether this format has its numbers in this order and unit, and whether the labels "
        "are of pictures of this size",
    )


def _reaches_far(annotation: Annotation, item: LabelledObject) -> bool:
    ymin, xmin, _, _ = item.box_yxyx_px
    least = 1 - _FAR
    return ymin < least * annotation.height or xmin < least * annotation.width or _is_far_beyond(annotation, item)


def pictures_in_both(splits: Mapping[str, Split]) -> tuple[str, ...]:
    """Return a remark, in a tuple, if training and validation have pictures with the same bytes; else ()."""
    paths = {prefix: [each.image_path for each in split.sources] for prefix, split in splits.items()}
    sizes = {prefix: _by_size(each) for prefix, each in paths.items()}
    train, validation = sizes.get(TRAIN, {}), sizes.get(VALIDATION, {})
    pairs = [
        (one, other)
        for size in sorted(train.keys() & validation.keys())
        for one, other in _same(train[size], validation[size])
    ]
    if not pairs:
        return ()
    order = {path: number for number, path in enumerate(paths[VALIDATION])}
    one, other = min(pairs, key=lambda pair: order[pair[1]])
    return (
        f"{len(pairs)} of {len(order)} validation pictures are training pictures too, by their bytes, the first: "
        f"{other} and {one}; the score would be too good: take them out of one of the two",
    )


def _by_size(paths: Iterable[Path]) -> dict[int, list[Path]]:
    """Return files by their size in bytes; those that are empty, missing or no files are left out."""
    found: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        if path.is_file() and (size := path.stat().st_size):
            found[size].append(path)
    return found


def _same(train: Sequence[Path], validation: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return each validation picture that has the bytes of a training picture, with the first of these."""
    by_digest = {_digest(path): path for path in reversed(train)}
    pairs = [(by_digest.get(_digest(path)), path) for path in validation]
    return [(one, other) for one, other in pairs if one]


def _digest(path: Path) -> bytes:
    """Return a digest of a file's bytes, of its path if it cannot be read, which is said when it is converted."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return str(path).encode()


def classes_without_objects(data: DataSet) -> tuple[str, ...]:
    """Return a note on classes without a training object, and one on those without a validation object.

    Difficult objects do not count: they are neither learnt from nor scored.
    """
    found = {
        prefix: {item.name for each in split.sources for item in each.annotation.objects if not item.difficult}
        for prefix, split in data.splits.items()
    }
    notes = []
    if TRAIN in found:
        missing = [name for name in data.class_names if name not in found[TRAIN]]
        consequence = "so they cannot be learnt: label some, or leave the names out"
        notes += [_note(missing, data, "training", consequence)] if missing else []
    if VALIDATION in found:
        missing = [name for name in data.class_names if name in found.get(TRAIN, found[VALIDATION]) - found[VALIDATION]]
        consequence = (
            "so they have no score: add validation pictures with them, or let --validation_fraction, which takes some "
            "of each class, choose"
        )
        notes += [_note(missing, data, "validation", consequence)] if missing else []
    return tuple(notes)


def _note(missing: Sequence[str], data: DataSet, kind: str, consequence: str) -> str:
    more = f" and {len(missing) - _MOST_NAMES} more" if len(missing) > _MOST_NAMES else ""
    told = ", ".join(missing[:_MOST_NAMES])
    return f"{len(missing)} of {len(data.class_names)} classes have no {kind} object, {consequence}: {told}{more}"
