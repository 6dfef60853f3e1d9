"""Detections drawn on images with Pillow."""

from __future__ import annotations

import colorsys
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utility.errors import UserError
from utility.files.text_files import whole_file

# Names of classes as pictures show them.


def cut_to_length(name: str, longest: int) -> str:
    """Return a name without line breaks and control characters, cut to `longest` characters, the last a "…"."""
    line = "".join(letter if letter.isprintable() else " " for letter in name[: longest + 1])
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


# Figures as files.


def save_figure(figure, path: str | Path, dpi: int = 120) -> None:
    """Write a figure of matplotlib as PNG; the folder must exist."""
    with whole_file(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a letter without a glyph becomes a box
        figure.savefig(unfinished, format="png", dpi=dpi)


# Pictures side by side.

_MOST_PIXELS = 480  # of the longer side of a picture on the sheet
_GAP = 4  # pixels between pictures


def save_sheet(pictures: Sequence[Image.Image], path: str | Path) -> None:
    """Write pictures, at least one and all of one size, as a JPEG in rows of about as many; the folder must exist."""
    small = [reduced(picture, _MOST_PIXELS) for picture in pictures]
    columns = math.ceil(math.sqrt(len(small)))
    width, height = (side + _GAP for side in small[0].size)
    sheet = Image.new("RGB", (columns * width - _GAP, math.ceil(len(small) / columns) * height - _GAP), "white")
    for number, picture in enumerate(small):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    with whole_file(path) as unfinished:
        sheet.save(unfinished, format="JPEG", quality=90)


def reduced(picture: Image.Image, longest: int) -> Image.Image:
    """Return a picture with a longer side of at most `longest` pixels."""
    factor = longest / max(picture.size)
    if factor >= 1:
        return picture
    return picture.resize([max(1, round(side * factor)) for side in picture.size], Image.Resampling.LANCZOS)


_Colour = tuple[int, int, int]
_Corners = tuple[int, int, int, int]  # xmin, ymin, xmax, ymax: 0-based inclusive pixels, as in Pillow

# From one class to the next the hue advances by this step, and saturation and value alternate. Of the steps 0 to 1 in
# units of .0005, this one gives the largest distances within the first 20 and the first 40 colours (at least 18 and 13
# in CIELAB).
_HUE_STEP = 0.616
_SATURATION_AND_VALUE = ((0.95, 1.0), (0.5, 1.0), (1.0, 0.6))
_LONGEST_NAME = 40  # characters of a label
_BLACK: _Colour = (0, 0, 0)
_WHITE: _Colour = (255, 255, 255)


@dataclass(frozen=True)
class _Label:
    """The text of a detection and the filled rectangle behind it."""

    text: str
    corners: _Corners
    font: ImageFont.FreeTypeFont
    colour: _Colour


def draw_detections(
    image: Image.Image | np.ndarray,
    boxes_yxyx_px: np.ndarray,
    scores: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
) -> Image.Image:
    """Return a copy of an image with the box, class name and score of each detection.

    A detection with a higher score is drawn over one with a lower score. Boxes are clipped to the image; boxes that
    are inverted, not finite or completely outside are not drawn. Line width and font size scale with the image.

    Args:
        image: a Pillow image of any mode, or an array uint8 RGB [H, W, 3].
        boxes_yxyx_px: [D, 4], 1-based inclusive pixels of the image, as in the results files.
        scores: [D] in [0, 1].
        class_ids: int [D], from 1.
        class_names: the name of class id i is class_names[i - 1]; an id without a name is drawn as `class {id}`.

    Raises:
        UserError: the arrays have different lengths, or the image is an array but not uint8 [H, W, 3].
    """
    boxes = np.asarray(boxes_yxyx_px, dtype=np.float64).reshape(-1, 4)
    if not len(boxes) == len(scores) == len(class_ids):
        raise UserError(f"{len(boxes)} boxes, {len(scores)} scores and {len(class_ids)} class ids to draw")
    # In order of decreasing score: the best detection chooses the position of its label first.
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable").tolist()
    return draw_marks(image, [detection_mark(boxes[i], scores[i], int(class_ids[i]), class_names) for i in order])


class Mark(NamedTuple):
    """A box to draw."""

    box_yxyx_px: np.ndarray  # [4], 1-based inclusive pixels, as those of `draw_detections`
    colour: _Colour  # RGB, each in [0, 255]
    text: str = ""  # of its label; "": a thin line without one


def detection_mark(box_yxyx_px: np.ndarray, score: float, class_id: int, class_names: Sequence[str]) -> Mark:
    """Return how a detection is drawn."""
    return Mark(box_yxyx_px, class_colour(class_id), f"{class_name(class_names, class_id)} {score:.2f}")


def draw_marks(image: Image.Image | np.ndarray, marks: Sequence[Mark]) -> Image.Image:
    """Return a copy of an image, RGB or uint8 [H, W, 3], with boxes; of those that overlap the first is on top."""
    canvas = _as_rgb(image)
    visible: list[tuple[_Corners, _Colour, _Label | None]] = []
    for mark in marks:
        corners = _clipped(np.asarray(mark.box_yxyx_px, np.float64), canvas.size)
        if corners is not None:
            occupied = [label.corners for _, _, label in visible if label]
            label = _make_label(mark.text, corners, mark.colour, canvas.size, occupied) if mark.text else None
            visible.append((corners, mark.colour, label))
    _paint(canvas, visible[::-1])
    return canvas


def class_colour(class_id: int) -> tuple[int, int, int]:
    """Return the RGB colour of a class id, each channel in [0, 255]; it depends on the id only."""
    saturation, value = _SATURATION_AND_VALUE[class_id % len(_SATURATION_AND_VALUE)]
    red, green, blue = colorsys.hsv_to_rgb(class_id * _HUE_STEP % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _as_rgb(image: Image.Image | np.ndarray) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"an image array must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    return Image.fromarray(image).copy()


def class_name(class_names: Sequence[str], class_id: int) -> str:
    """Return the name of a class id as a label shows it."""
    name = class_names[class_id - 1] if 1 <= class_id <= len(class_names) else f"class {class_id}"
    return cut_to_length(name, _LONGEST_NAME)


def _clipped(box_yxyx_px: np.ndarray, size: tuple[int, int]) -> _Corners | None:
    """Clip a 1-based inclusive box to an image of `size` (width, height); return None if nothing is left."""
    if not np.isfinite(box_yxyx_px).all():
        return None
    ymin, xmin, ymax, xmax = np.rint(box_yxyx_px - 1)
    width, height = size
    corners = max(xmin, 0), max(ymin, 0), min(xmax, width - 1), min(ymax, height - 1)
    if corners[0] > corners[2] or corners[1] > corners[3]:
        return None
    return int(corners[0]), int(corners[1]), int(corners[2]), int(corners[3])


def _make_label(
    text: str, box: _Corners, colour: _Colour, size: tuple[int, int], occupied: Sequence[_Corners]
) -> _Label:
    font = _fitting_font(text, size)
    ascent, descent = font.getmetrics()
    pad = _pad_px(font)
    width, height = round(font.getlength(text)) + 2 * pad, ascent + descent + pad
    return _Label(text, _label_corners(box, (width, height), size, occupied), font, colour)


def _fitting_font(text: str, size: tuple[int, int]) -> ImageFont.FreeTypeFont:
    """Return a font with the size of 1/28 of the image's shorter side, or smaller if the text would not fit."""
    letter_px = max(10, round(min(size) / 28))
    length = _font(letter_px).getlength(text) + 2 * _pad_px(_font(letter_px))
    return _font(max(4, min(letter_px, int(letter_px * size[0] / length))))


@lru_cache(maxsize=64)
def _font(letter_px: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=letter_px)
    assert isinstance(font, ImageFont.FreeTypeFont)  # every wheel of Pillow includes FreeType
    return font


def _pad_px(font: ImageFont.FreeTypeFont) -> int:
    return max(1, round(font.size / 5))


def _label_corners(
    box: _Corners, label: tuple[int, int], size: tuple[int, int], occupied: Sequence[_Corners]
) -> _Corners:
    """Choose the position of a label of (width, height), inside an image of `size` (width, height).

    Candidates, in this order: above the box, inside at its top, below it, inside at its bottom; first aligned with the
    left edge of the box, then with the right edge. The first candidate that overlaps no occupied rectangle is chosen;
    if there is none, the first candidate.
    """
    width, height = label
    tops = (box[1] - height, box[1], box[3] + 1, box[3] + 1 - height)
    inside = [top for top in tops if 0 <= top <= size[1] - height] or [0]
    lefts = [max(0, min(left, size[0] - width)) for left in (box[0], box[2] + 1 - width)]
    candidates = [(left, top, left + width - 1, top + height - 1) for left in lefts for top in inside]
    free = (corners for corners in candidates if not any(_overlap(corners, other) for other in occupied))
    return next(free, candidates[0])


def _overlap(a: _Corners, b: _Corners) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _paint(image: Image.Image, marks: Sequence[tuple[_Corners, _Colour, _Label | None]]) -> None:
    """Draw all boxes, then all labels, so that no line crosses a text.

    Labels and boxes with one have a thin border in black or white, which separates them from a background of the same
    colour.
    """
    pen = ImageDraw.Draw(image)
    line_px = max(2, round(min(image.size) / 160))
    border_px = max(1, line_px // 3)
    for corners, colour, label in marks:
        if label is None:
            pen.rectangle(corners, outline=colour, width=max(1, line_px // 2))
            continue
        border = _text_colour(colour)
        pen.rectangle(_expanded(corners, border_px), outline=border, width=line_px + 2 * border_px)
        pen.rectangle(corners, outline=colour, width=line_px)
    for label in (label for _, _, label in marks if label):
        pad = _pad_px(label.font)
        pen.rectangle(label.corners, fill=label.colour, outline=_text_colour(label.colour), width=border_px)
        start = label.corners[0] + pad, label.corners[1] + pad // 2
        pen.text(start, label.text, fill=_text_colour(label.colour), font=label.font)


def _expanded(corners: _Corners, pixels: int) -> _Corners:
    return corners[0] - pixels, corners[1] - pixels, corners[2] + pixels, corners[3] + pixels


def _text_colour(background: _Colour) -> _Colour:
    """Return black or white, whichever has the higher contrast ratio to the background: WCAG 2, relative luminance."""
    parts = [value / 255 for value in background]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # The contrast ratio is (lighter + .05) / (darker + .05): equal for black and white at sqrt(.05 * 1.05) - .05.
    return _BLACK if luminance > 0.179 else _WHITE
