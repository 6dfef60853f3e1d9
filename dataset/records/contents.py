"""What records hold: their examples one by one, counts over them, and pictures with their boxes."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.records.parsing import faults_named, parse, quiet
from dataset.sources.annotations import Annotation
from utility.drawing.detections import Mark, class_colour, class_name, draw_marks
from utility.errors import UserError

_SIZE_LIMITS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the groups by size
_MAX_IMAGE_SIZES = 5

Example = Mapping[str, Any]


def read_examples(shards: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the examples of record files in order: what `parse` returns, as numpy values.

    A UserError names a broken record.
    """
    with faults_named(shards), tf.Graph().as_default(), tf.Session() as session:
        dataset = tf.data.TFRecordDataset(list(shards)).map(parse).prefetch(1)
        example = tf.data.make_one_shot_iterator(dataset).get_next()
        while True:
            try:
                with quiet():
                    values = session.run(example)
                yield values
            except tf.errors.OutOfRangeError:
                return


def count_lines(examples: Sequence[Example], class_names: Sequence[str]) -> list[str]:
    """Return lines with the numbers of images and objects, by class and size; the pictures are not needed.

    The name at index i has class id i + 1.
    """
    sizes, objects, difficult = Counter[str](), Counter[int](), Counter[int]()
    images_with, size_groups = Counter[int](), Counter[int]()
    for example in examples:
        class_ids, sides_yx = example["labels"].tolist(), example["boxes_yxyx"][:, 2:] - example["boxes_yxyx"][:, :2]
        sizes[f"{example['width']}x{example['height']}"] += 1
        objects.update(class_ids)
        images_with.update(set(class_ids))
        difficult.update(example["labels"][example["difficult"]].tolist())
        sides_yx = sides_yx[(sides_yx > 0).all(axis=1)]
        size_groups.update(np.searchsorted(_SIZE_LIMITS[1:-1], np.sqrt(sides_yx.prod(axis=1))).tolist())
    empty = sum(not len(example["labels"]) for example in examples)
    common = ", ".join(f"{size} ({count})" for size, count in sizes.most_common(_MAX_IMAGE_SIZES))
    others = len(sizes) - _MAX_IMAGE_SIZES
    names = {class_id: f"class {class_id}" for class_id in objects} | dict(enumerate(class_names, start=1))
    width = max(map(len, names.values()), default=0)
    lines = [
        f"{len(examples)} images, {empty} of them without objects; {objects.total()} objects, {difficult.total()} of"
        f" them difficult, {objects.total() - size_groups.total()} without area",
        f"images, width x height: {common}{f', and {others} other sizes' if others > 0 else ''}",
        f"{'class':>{width + 4}}  objects  difficult   images",
    ]
    for class_id, name in sorted(names.items()):
        counts = f"{objects[class_id]:7d}  {difficult[class_id]:9d}  {images_with[class_id]:7d}"
        lines.append(f"{class_id:3d} {name:>{width}}  {counts}")
    lines.append("objects by size, the square root of the box's fraction of the image area:")
    for group, (low, high) in enumerate(itertools.pairwise(_SIZE_LIMITS)):
        lines.append(f"  {low:.1f} to {high:.1f}  {size_groups[group]:7d}")
    return lines


def draw_example(example: Example, class_names: Sequence[str], output_directory: Path) -> None:
    """Write an example's picture with its boxes and their classes as a JPEG named after its image id."""
    picture = Image.open(io.BytesIO(example["image_encoded"]))  # may be smaller than the picture as it came
    boxes_px = example["boxes_yxyx"] * np.tile(picture.size[::-1], 2)
    rows = zip(boxes_px, example["labels"].tolist(), strict=True)
    marks = [Mark(box, class_colour(label), class_name(class_names, label)) for box, label in rows]
    output_directory.mkdir(parents=True, exist_ok=True)
    draw_marks(picture, marks).save(output_directory / f"{example['image_id'].decode()}.jpg", quality=90)


def pictures_of(shards: Sequence[str], annotations: Sequence[Annotation]) -> dict[str, bytes]:
    """Return the picture files of annotations from these records, by image id; fewer if a record is broken."""
    wanted, found = {annotation.image_id for annotation in annotations}, {}
    with contextlib.suppress(UserError):
        for example in read_examples(shards) if wanted else ():
            if (image_id := example["image_id"].decode()) in wanted:
                found[image_id] = example["image_encoded"]
            if len(found) == len(wanted):
                break
    return found
