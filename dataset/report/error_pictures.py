"""Pictures with their errors drawn, and where picture files are found."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from dataset.analysis.costly_images import CostlyImage
from dataset.sources.annotations import Annotation
from utility.drawing.detections import draw_boxes

_LONGER_SIDE = 520  # pixels of a drawn picture
_QUALITY = 80


class _Colours(NamedTuple):
    truth: tuple[int, int, int] = (30, 150, 60)
    not_found: tuple[int, int, int] = (40, 90, 230)
    wrong: tuple[int, int, int] = (220, 50, 30)


COLOURS = _Colours()


def draw_errors(
    images: Iterable[CostlyImage], class_names: Sequence[str], pictures: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return JPEGs by image id; a picture that is missing or cannot be decoded is left out."""
    drawn = {}
    for image in images:
        file = pictures.get(image.annotation.image_id)
        if file is not None:
            try:
                drawn[image.annotation.image_id] = _draw(image, class_names, file)
            except Exception:  # a broken file makes Pillow raise anything; the page says what is missing
                continue
    return drawn


def _draw(image: CostlyImage, class_names: Sequence[str], file: bytes) -> bytes:
    with Image.open(io.BytesIO(file)) as opened:
        picture = opened.convert("RGB")
    height, width = _annotated_size(image.annotation, picture)
    picture.thumbnail((_LONGER_SIDE, _LONGER_SIDE))
    missed = {error.box_yxyx_px for error in image.errors if error.score is None}
    rows = [(error.box_yxyx_px, *_label(error.score, class_names[error.class_id - 1])) for error in image.errors]
    rows += [(box, class_names[class_id - 1], COLOURS.truth) for class_id, box in image.truth if box not in missed]
    boxes, texts, colours = zip(*rows, strict=True)
    scale = np.array([picture.height / height, picture.width / width] * 2)
    # 1-based inclusive pixels, so that the upper ends are edges and the lower ones are one past them
    corners = (np.array(boxes) - [1, 1, 0, 0]) * scale + [1, 1, 0, 0]
    buffer = io.BytesIO()
    draw_boxes(picture, corners, texts, colours).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _annotated_size(annotation: Annotation, picture: Image.Image) -> tuple[int, int]:
    """Return height and width that boxes are in; a picture of a record may be smaller."""
    if annotation.height and annotation.width:
        return annotation.height, annotation.width
    return picture.height, picture.width


def _label(score: float | None, name: str) -> tuple[str, tuple[int, int, int]]:
    return (name, COLOURS.not_found) if score is None else (f"{name} {score:.2f}", COLOURS.wrong)
