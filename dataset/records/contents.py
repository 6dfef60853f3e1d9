"""Counts over the examples of a data set, and pictures of examples with their boxes."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.records.parsing import faults_named, parse, quiet
from dataset.sources.annotations import Annotation
from utility.drawing.detections import draw_detections

_SIZE_LIMITS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # upper ends of the groups by size
_MAX_IMAGE_SIZES = 5

Example = Mapping[str, Any]


@dataclass
class Contents:
    """Counts over examples, updated one by one; classes are class ids, `size_groups` are indices of size groups."""

    images: int = 0
    images_without_objects: int = 0
    degenerate: int = 0
    image_sizes: Counter[str] = field(default_factory=Counter)
    objects: Counter[int] = field(default_factory=Counter)
    difficult: Counter[int] = field(default_factory=Counter)
    images_with: Counter[int] = field(default_factory=Counter)
    size_groups: Counter[int] = field(default_factory=Counter)

    def add(self, example: Example) -> None:
        """Count one more example of those that `read_examples` yields."""
        class_ids = example["labels"].tolist()
        heights, widths = (example["boxes_yxyx"][:, 2:] - example["boxes_yxyx"][:, :2]).T
        self.images += 1
        self.images_without_objects += not class_ids
        self.image_sizes[f"{example['width']}x{example['height']}"] += 1
        self.objects.update(class_ids)
        self.images_with.update(set(class_ids))
        self.difficult.update(example["labels"][example["difficult"]].tolist())
        has_area = (heights > 0) & (widths > 0)
        self.degenerate += int((~has_area).sum())
        self.size_groups.update(np.searchsorted(_SIZE_LIMITS[:-1], np.sqrt((heights * widths)[has_area])).tolist())

    def lines(self, class_names: Sequence[str]) -> list[str]:
        """Return the counts as lines of text and tables; the name at index i has class id i + 1."""
        summary = (
            f"{self.images} images, {self.images_without_objects} of them without objects; "
            f"{self.objects.total()} objects, {self.difficult.total()} of them difficult, "
            f"{self.degenerate} without area"
        )
        common = self.image_sizes.most_common(_MAX_IMAGE_SIZES)
        others = len(self.image_sizes) - len(common)
        sizes = ", ".join(f"{size} ({count})" for size, count in common)
        more = f", and {others} other sizes" if others else ""
        return [summary, f"images, width x height: {sizes}{more}", *self._by_class(class_names), *self._by_size()]

    def _by_class(self, class_names: Sequence[str]) -> list[str]:
        names = {**{class_id: f"class {class_id}" for class_id in self.objects}, **_numbered(class_names)}
        width = max((len(name) for name in names.values()), default=0)
        head = f"{'class':>{width + 4}}  objects  difficult   images"
        rows = (
            f"{class_id:3d} {names[class_id]:>{width}}  {self.objects[class_id]:7d}  {self.difficult[class_id]:9d}"
            f"  {self.images_with[class_id]:7d}"
            for class_id in sorted(names)
        )
        return [head, *rows]

    def _by_size(self) -> list[str]:
        lows = (0.0, *_SIZE_LIMITS[:-1])
        rows = (
            f"  {low:.1f} to {high:.1f}  {self.size_groups[group]:7d}"
            for group, (low, high) in enumerate(zip(lows, _SIZE_LIMITS, strict=True))
        )
        return ["objects by size, the square root of the box's fraction of the image area:", *rows]


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


def pictures_of(shards: Sequence[str], annotations: Sequence[Annotation]) -> dict[str, bytes]:
    """Return the picture files of annotations that come from these records, by image id; none if a record is broken."""
    wanted, found = {annotation.image_id for annotation in annotations}, {}
    with contextlib.suppress(ValueError):
        for example in read_examples(shards) if wanted else ():
            image_id = example["image_id"].decode()
            if image_id in wanted:
                found[image_id] = example["image_encoded"]
            if len(found) == len(wanted):
                break
    return found


def draw_example(example: Example, class_names: Sequence[str], output_directory: Path) -> Path:
    """Write an example's picture with its boxes, drawn with a score of 1, as JPEG; return its path."""
    picture = Image.open(io.BytesIO(example["image_encoded"]))  # may be smaller than the picture as it came
    drawn = draw_detections(
        picture,
        example["boxes_yxyx"] * [picture.height, picture.width, picture.height, picture.width],
        np.ones(len(example["labels"])),
        example["labels"],
        class_names,
    )
    output_directory.mkdir(parents=True, exist_ok=True)
    path = output_directory / f"{example['image_id'].decode()}.jpg"
    drawn.save(path, quality=90)
    return path


def _numbered(class_names: Sequence[str]) -> dict[int, str]:
    return dict(enumerate(class_names, start=1))
