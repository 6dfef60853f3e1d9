"""Takes a part of the training images for validation, some of each class."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dataset.sources.annotations import TRAIN, VALIDATION, DataSet, Source
from utility.errors import UserError

_SEED = "20180503"
_NO_CLASS = frozenset({""})  # images without objects are divided like those of a class


def divided(data: DataSet, fraction: float) -> DataSet:
    """Return a data set with a part of its training images as the validation split, both in their former order.

    Each class is divided by images in this ratio, the rarest first, with an image on each side if it has two; images
    without objects likewise. An image's side follows from the ids and classes of all, not from their order.

    Args:
        data: a data set without a validation split.
        fraction: of the images, above 0 and below 1.

    Raises:
        UserError: there is a validation split, no training split, or a single image.
    """
    flag = f"--validation_fraction={fraction:g}"
    if VALIDATION in data.splits:
        name, given = data.splits[VALIDATION].name, data.split_flags[VALIDATION]
        raise UserError(f"{flag}: there are validation images already, {name} ({given}): leave one of the two out")
    train = data.splits[TRAIN]
    if len(train.sources) < 2:
        raise UserError(f"{flag}: {len(train.sources)} images of {train.name} cannot be divided: give two or more")
    chosen = choose(
        [_classes(source) for source in train.sources], [_key(source) for source in train.sources], fraction
    )
    sides = {
        prefix: replace(
            train,
            name=f"{train.name}, {text} by {flag}",
            origin={**train.origin, "validation_fraction": fraction},
            sources=tuple(
                each for number, each in enumerate(train.sources) if (number in chosen) == (prefix == VALIDATION)
            ),
        )
        for prefix, text in ((TRAIN, "the rest"), (VALIDATION, "a part"))
    }
    sides[VALIDATION] = replace(sides[VALIDATION], skipped=())
    return replace(data, splits=sides)


def _classes(source: Source) -> frozenset[str]:
    return frozenset(each.name for each in source.annotation.objects if not each.difficult) or _NO_CLASS


def _key(source: Source) -> bytes:
    """Return what puts images in an order of chance that does not depend on that of the files."""
    text = f"{_SEED} {source.annotation.image_id} {source.where}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def choose(classes: Sequence[frozenset[str]], keys: Sequence[bytes], fraction: float) -> set[int]:
    """Return the indices of the images for validation, by iterative stratification (Sechidis et al., 2011).

    Class by class, that with the fewest images left first, an image goes to the side that lacks more of this class, in
    doubt of its other classes. A class whose images all went to one side then gets one of them back, if this takes no
    other class from a side.

    Args:
        classes: of each image.
        keys: of each image, different ones; images are taken in the order of their keys.
        fraction: of the images, for validation.
    """
    order = sorted(range(len(keys)), key=lambda index: keys[index])
    totals = Counter(name for each in classes for name in each)
    wanted = {name: max(round(fraction * total), 1) if total > 1 else 0 for name, total in totals.items()}
    wanted = {name: min(count, max(totals[name] - 1, 0)) for name, count in wanted.items()}
    lacking = {True: Counter(wanted), False: Counter({name: totals[name] - wanted[name] for name in totals})}
    waiting, left, chosen = dict.fromkeys(order), Counter(totals), set[int]()
    while waiting:
        rarest = min((name for name in left if left[name]), key=lambda name: (left[name], name))
        for index in [index for index in waiting if rarest in classes[index]]:
            del waiting[index]
            left.subtract(classes[index])
            for_validation = _side(classes[index], rarest, lacking)
            lacking[for_validation].subtract(classes[index])
            if for_validation:
                chosen.add(index)
    return _with_classes_on_both_sides(classes, order, chosen, totals)


def _side(of_image: frozenset[str], rarest: str, lacking: Mapping[bool, Counter[str]]) -> bool:
    """Tell whether an image goes to validation: where its rarest class is lacking more, in doubt its other classes."""
    needs = [(lacking[side][rarest], sum(lacking[side][name] for name in of_image)) for side in (True, False)]
    return needs[0] > needs[1]


def _with_classes_on_both_sides(
    classes: Sequence[frozenset[str]], order: Sequence[int], chosen: set[int], totals: Mapping[str, int]
) -> set[int]:
    """Move an image of each class that is on one side only, where no class is on the other side only then."""
    counts = {
        side: Counter(name for i in order if (i in chosen) == side for name in classes[i]) for side in (True, False)
    }
    for name in sorted(totals):
        for side in (True, False):
            if totals[name] > 1 and not counts[side][name]:
                movable = (i for i in order if name in classes[i] and all(counts[not side][c] > 1 for c in classes[i]))
                index = next(movable, None)
                if index is not None:
                    chosen = chosen ^ {index}
                    counts[side].update(classes[index])
                    counts[not side].subtract(classes[index])
    return chosen
