"""What records hold, for people: counts over the examples, and their pictures, with boxes or as they are."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataset.records.parsing import read_examples
from dataset.sources.annotations import Annotation
from utility.drawing.detections import Mark, class_colour, class_name, draw_marks
from utility.errors import UserError

_SIZE_LIMITS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # upper ends of the groups by size
_MOST_IMAGE_SIZES = 5

Example = Mapping[str, Any]  # numpy values of what `parsing.parse` returns


def described(examples: Sequence[Example], class_names: Sequence[str]) -> list[str]:
    """Return counts over examples as lines of text and tables; the pictures are not needed.

    The name at index i has class id i + 1.
    """
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(example["boxes_yxyx"] for example in examples)])
    labels = np.concatenate([np.zeros(0, np.int64), *(example["labels"] for example in examples)])
    difficult = np.concatenate([np.zeros(0, bool), *(example["difficult"] for example in examples)])
    sides = boxes[:, 2:] - boxes[:, :2]
    has_area = (sides > 0).all(axis=1)
    without_objects = sum(not len(example["labels"]) for example in examples)
    image_sizes = Counter(f"{example['width']}x{example['height']}" for example in examples)
    common = image_sizes.most_common(_MOST_IMAGE_SIZES)
    more = f", and {len(image_sizes) - len(common)} other sizes" if len(image_sizes) > len(common) else ""
    lines = [
        f"{len(examples)} images, {without_objects} of them without objects; {len(labels)} objects,"
        f" {difficult.sum()} of them difficult, {(~has_area).sum()} without area",
        f"images, width x height: {', '.join(f'{size} ({count})' for size, count in common)}{more}",
    ]

    names = {class_id: f"class {class_id}" for class_id in labels.tolist()} | dict(enumerate(class_names, start=1))
    objects, of_difficult = Counter(labels.tolist()), Counter(labels[difficult].tolist())
    images_with = Counter(class_id for example in examples for class_id in set(example["labels"].tolist()))
    width = max((len(name) for name in names.values()), default=0)
    lines.append(f"{'class':>{width + 4}}  objects  difficult   images")
    lines += [
        f"{class_id:3d} {names[class_id]:>{width}}  {objects[class_id]:7d}  {of_difficult[class_id]:9d}"
        f"  {images_with[class_id]:7d}"
        for class_id in sorted(names)
    ]

    groups = np.searchsorted(_SIZE_LIMITS[:-1], np.sqrt(sides[has_area].prod(axis=1)))
    counts = np.bincount(groups, minlength=len(_SIZE_LIMITS))
    lines.append("objects by size, the square root of the box's fraction of the image area:")
    lines += [
        f"  {low:.1f} to {high:.1f}  {count:7d}"
        for low, high, count in zip((0.0, *_SIZE_LIMITS), _SIZE_LIMITS, counts, strict=False)
    ]
    return lines


def draw_example(example: Example, class_names: Sequence[str], output_directory: Path, pixel_extent: float) -> Path:
    """Write an example's picture with its boxes, drawn with a score of 1, as JPEG; return its path."""
    picture = Image.open(io.BytesIO(example["image_encoded"]))  # may be smaller than the picture as it came
    boxes = example["boxes_yxyx"] * [picture.height, picture.width, picture.height, picture.width]
    marks = [
        Mark(box, class_colour(label), class_name(class_names, label))
        for box, label in zip(boxes, example["labels"].tolist(), strict=True)
    ]
    output_directory.mkdir(parents=True, exist_ok=True)
    path = output_directory / f"{example['image_id'].decode()}.jpg"
    draw_marks(picture, marks, pixel_extent).save(path, quality=90)
    return path


def pictures_of(shards: Sequence[str], annotations: Sequence[Annotation]) -> dict[str, bytes]:
    """Return the picture files of annotations that come from these records, by image id; none if a record is broken."""
    wanted, found = {annotation.image_id for annotation in annotations}, {}
    with contextlib.suppress(UserError):
        for example in read_examples(shards) if wanted else ():
            image_id = example["image_id"].decode()
            if image_id in wanted:
                found[image_id] = example["image_encoded"]
            if len(found) == len(wanted):
                break
    return found
