"""Reads a data set in one of the label formats, takes a part of it for validation, and says what looks wrong in it."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

from dataset.sources import coco, labelme, odapi, openimages, voc, yolo
from dataset.sources.annotations import TRAIN, VALIDATION, DataSet, Source, Split
from dataset.sources.folders import SourceFlag
from utility.errors import UserError


class SourceFormat(Protocol):
    """A module that reads a label format: its flags, and a function for them."""

    FLAGS: tuple[SourceFlag, ...]

    def read_data_set(self, values: Mapping[str, Any], skip_bad_images: bool) -> DataSet:
        """Read all annotations of a data set; no picture is decoded, but its size may be read from its header.

        `values` are those of FLAGS by name, None for a flag that is not given and has no default. With
        `skip_bad_images`, images that are missing or whose annotation cannot be read are left out, with a line for
        each in `Split.skipped`. What is missing is an OSError, what is wrong a UserError.
        """
        ...


FORMATS: Mapping[str, SourceFormat] = {
    "voc": voc,
    "coco": coco,
    "yolo": yolo,
    "labelme": labelme,
    "odapi": odapi,
    "openimages": openimages,
}

_SEED = "20180503"
_NO_CLASS = frozenset({""})  # images without objects are divided like those of a class
_FAR = 1.05  # of the image's side
_MOST_FAR, _MOST_FAR_SHARE = 2, 0.02  # boxes that reach far beyond the image, in a data set where nothing is wrong
_MOST_NAMES = 20  # in a message
_SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")  # but for those between digits: 1 1 is not 11


def read_data_set(
    format_name: str, values: Mapping[str, Any], *, skip_bad_images: bool, validation_fraction: float | None = None
) -> DataSet:
    """Read a data set, take a part of its training images for validation if asked to, and look at the whole.

    `format_name` is one of FORMATS, `validation_fraction` as in `divided`, or None to leave the splits as they are; the
    rest is as in `SourceFormat.read_data_set`.

    Raises:
        OSError: a file or folder is missing.
        UserError: a flag, an annotation or a class name is wrong, or boxes are fractions of the image.
    """
    data = FORMATS[format_name].read_data_set(values, skip_bad_images)
    if validation_fraction is not None:
        data = divided(data, validation_fraction)
    sources = [source for split in data.splits.values() for source in split.sources]
    refuse_fractions(sources)
    remarks = (*(data.remarks or boxes_far_beyond(sources)), *pictures_in_both(data.splits))
    told = (*data.notes, *rotated_rectangles(sources))
    notes = (*told, *names_alike(data.class_names, sources), *classes_without_objects(data))
    return replace(data, remarks=remarks, notes=notes)


def divided(data: DataSet, fraction: float) -> DataSet:
    """Return a data set with a part of its training images as the validation split, both in their former order.

    Each class is divided by images in this ratio, above 0 and below 1, the rarest first, with an image on each side if
    it has two; images without objects likewise. An image's side follows from the ids and classes of all, not from their
    order. A UserError if there is a validation split, or a single image.
    """
    flag = f"--validation_fraction={fraction:g}"
    if VALIDATION in data.splits:
        name, given = data.splits[VALIDATION].name, data.split_flags[VALIDATION]
        raise UserError(f"{flag}: there are validation images already, {name} ({given}): leave one of the two out")
    train = data.splits[TRAIN]
    if len(train.sources) < 2:
        raise UserError(f"{flag}: {len(train.sources)} images of {train.name} cannot be divided: give two or more")
    chosen = _chosen_for_validation(train.sources, fraction)
    sides = {
        prefix: replace(
            train,
            name=f"{train.name}, {text} by {flag}",
            origin={**train.origin, "validation_fraction": fraction},
            sources=tuple(each for n, each in enumerate(train.sources) if (n in chosen) == (prefix == VALIDATION)),
            skipped=train.skipped if prefix == TRAIN else (),
        )
        for prefix, text in ((TRAIN, "the rest"), (VALIDATION, "a part"))
    }
    return replace(data, splits=sides)


def _chosen_for_validation(sources: Sequence[Source], fraction: float) -> set[int]:
    """Return the indices of the images for validation, by iterative stratification (Sechidis et al., 2011).

    Class by class, that with the fewest images left first, an image goes to the side that lacks more of this class, in
    doubt of its other classes. A class whose images all went to one side then gets one of them back, if this takes no
    other class from a side.
    """
    classes = [
        frozenset(each.name for each in source.annotation.objects if not each.difficult) or _NO_CLASS
        for source in sources
    ]
    # an order of chance that does not depend on that of the files
    texts = [f"{_SEED} {source.annotation.image_id} {source.where}" for source in sources]
    keys = [hashlib.sha256(text.encode(errors="surrogateescape")).digest() for text in texts]
    order = sorted(range(len(keys)), key=lambda index: keys[index])
    totals = Counter(name for each in classes for name in each)
    wanted = {name: min(max(round(fraction * n), 1), n - 1) for name, n in totals.items()}
    lacking = {True: Counter(wanted), False: Counter({name: totals[name] - wanted[name] for name in totals})}
    waiting, left, chosen = dict.fromkeys(order), Counter(totals), set[int]()
    while waiting:
        rarest = min((name for name in left if left[name]), key=lambda name: (left[name], name))
        for index in [index for index in waiting if rarest in classes[index]]:
            del waiting[index]
            left.subtract(classes[index])
            for_validation, for_training = (
                (lacking[side][rarest], sum(lacking[side][name] for name in classes[index])) for side in (True, False)
            )
            if for_validation > for_training:
                chosen.add(index)
            lacking[index in chosen].subtract(classes[index])
    counts = {side: Counter(c for i in order if (i in chosen) == side for c in classes[i]) for side in (True, False)}
    for name in sorted(totals):
        for side in (True, False):
            if totals[name] > 1 and not counts[side][name]:
                movable = (i for i in order if name in classes[i] and all(counts[not side][c] > 1 for c in classes[i]))
                for index in islice(movable, 1):
                    chosen ^= {index}
                    counts[side].update(classes[index])
                    counts[not side].subtract(classes[index])
    return chosen


def refuse_fractions(sources: Sequence[Source]) -> None:
    """Refuse boxes that are fractions of the image instead of pixels.

    They are taken for fractions where half of the images with objects, or more, have all of their boxes within [0, 1],
    and these are not whole numbers: a box of a single pixel can be 0, 0, 1, 1.
    """
    labelled = [each for each in sources if each.annotation.objects]
    within = [
        each
        for each in labelled
        if all(0 <= side <= 1 for item in each.annotation.objects for side in item.box_yxyx_px)
    ]
    broken = [
        (each, item) for each in within for item in each.annotation.objects if any(x % 1 for x in item.box_yxyx_px)
    ]
    if broken and 2 * len(within) >= len(labelled):
        source, item = broken[0]
        ymin, xmin, ymax, xmax = item.box_yxyx_px
        raise UserError(
            f"{source.where}: the box xmin {xmin:g} ymin {ymin:g} xmax {xmax:g} ymax {ymax:g} ({item.name}) looks like "
            f"fractions of the image, as do all boxes of {len(within)} of {len(labelled)} images with objects: "
            "multiply them by the image's width and height, for boxes are in pixels"
        )


def boxes_far_beyond(sources: Sequence[Source]) -> tuple[str, ...]:
    """Return a remark, in a tuple, if more than a few boxes reach far beyond their image; else ().

    Images whose size the annotation does not give are left out.
    """
    count, broken = 0, []
    for source in sources:
        height, width = source.annotation.height, source.annotation.width
        if height and width:
            count += len(source.annotation.objects)
            for item in source.annotation.objects:
                ymin, xmin, ymax, xmax = item.box_yxyx_px
                is_before = ymin < (1 - _FAR) * height or xmin < (1 - _FAR) * width
                if is_before or ymax > _FAR * height or xmax > _FAR * width:
                    broken.append((source, item))
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


def rotated_rectangles(sources: Sequence[Source]) -> tuple[str, ...]:
    """Return a note, in a tuple, on the number of rectangles that were turned; () if there is none."""
    turned = [source.where for source in sources for item in source.annotation.objects if item.rotated]
    if not turned:
        return ()
    return (f"{len(turned)} rotated rectangles became the upright boxes around them, the first in {turned[0]}",)


def pictures_in_both(splits: Mapping[str, Split]) -> tuple[str, ...]:
    """Return a remark, in a tuple, if training and validation have pictures with the same bytes; else ()."""
    train, validation = (
        [each.image_path for each in splits[prefix].sources] if prefix in splits else []
        for prefix in (TRAIN, VALIDATION)
    )
    # files that are empty, missing or cannot be read are told when they are converted
    readable = [path for path in {*train, *validation} if path.is_file() and os.access(path, os.R_OK)]
    size_of = {path: path.stat().st_size for path in readable}
    common = {size_of.get(path, 0) for path in train} & {size_of.get(path, 0) for path in validation} - {0}
    digest_of = {path: hashlib.sha256(path.read_bytes()).digest() for path, size in size_of.items() if size in common}
    twin_of = {digest_of[path]: path for path in reversed(train) if path in digest_of}
    pairs = [(path, twin_of[digest_of[path]]) for path in validation if digest_of.get(path) in twin_of]
    if not pairs:
        return ()
    return (
        f"{len(pairs)} of {len(validation)} validation pictures are training pictures too, by their bytes, the first: "
        f"{pairs[0][0]} and {pairs[0][1]}; the score would be too good: take them out of one of the two",
    )


def names_alike(class_names: Sequence[str], sources: Sequence[Source]) -> tuple[str, ...]:
    """Return a note for each group of class names that differ only by case, spaces or accents."""
    counts = Counter(dict.fromkeys(class_names, 0))
    first: dict[str, str] = {}
    for source in sources:
        for item in source.annotation.objects:
            counts[item.name] += 1
            first.setdefault(item.name, source.where)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        where = f", the first in {first[name]}" if name in first else ""
        letters = unicodedata.normalize("NFC", _SPACES.sub("", name.casefold()))
        # only Latin letters lose their accents: elsewhere a mark makes another letter, as in Japanese and Russian
        plain = (unicodedata.normalize("NFD", c)[0] if unicodedata.name(c, "")[:6] == "LATIN " else c for c in letters)
        groups["".join(plain)].append(f"{name} ({counts[name]}{where})")
    return tuple(
        f"class names that differ only by case, spaces or accents, with numbers of objects: {', '.join(group)}; they "
        "are classes of their own: if they mean the same, give them one name in the annotations"
        for group in groups.values()
        if len(group) > 1
    )


def classes_without_objects(data: DataSet) -> tuple[str, ...]:
    """Return a note on classes without a training object, and one on those without a validation object.

    Difficult objects do not count: they are neither learnt from nor scored.
    """
    found = {
        prefix: {item.name for each in split.sources for item in each.annotation.objects if not item.difficult}
        for prefix, split in data.splits.items()
    }
    notes = []
    for kind, expected, prefix, consequence in (
        ("training", {*data.class_names}, TRAIN, "so they cannot be learnt: label some, or leave the names out"),
        (
            "validation",
            found.get(TRAIN, set()),
            VALIDATION,
            "so they have no score: add validation pictures with them, or let --validation_fraction, which takes some "
            "of each class, choose",
        ),
    ):
        missing = [name for name in data.class_names if name in expected - found.get(prefix, expected)]
        if missing:
            more = f" and {len(missing) - _MOST_NAMES} more" if len(missing) > _MOST_NAMES else ""
            counts = f"{len(missing)} of {len(data.class_names)} classes have no {kind} object"
            notes.append(f"{counts}, {consequence}: {', '.join(missing[:_MOST_NAMES])}{more}")
    return tuple(notes)
