"""Marks on pictures, drawn with Pillow: the boxes of detections and of ground truth, and pictures side by side."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utility.files.text_files import whole_file

_Colour = tuple[int, int, int]  # RGB, each in [0, 255]
_Corners = tuple[int, int, int, int]  # xmin, ymin, xmax, ymax: 0-based inclusive pixels, as in Pillow

# From one class to the next the hue advances by this step, and saturation and value alternate. Of the steps 0 to 1 in
# units of .0005, this one gives the largest distances within the first 20 and the first 40 colours (at least 18 and 13
# in CIELAB).
_HUE_STEP = 0.616
_SATURATION_AND_VALUE = ((0.95, 1.0), (0.5, 1.0), (1.0, 0.6))
_LONGEST_NAME = 40  # characters of a label
_SHEET_SIDE, _SHEET_GAP = 480, 4  # pixels: the longer side of a picture on a sheet, and between pictures


class Mark(NamedTuple):
    """A box to draw."""

    box_yxyx_px: np.ndarray  # [4], pixels of the image
    colour: _Colour
    text: str = ""  # of its label; "": a thin line without one


def detection_mark(box_yxyx_px: np.ndarray, score: float, class_id: int, class_names: Sequence[str]) -> Mark:
    """Return how a detection is drawn."""
    return Mark(box_yxyx_px, class_colour(class_id), f"{class_name(class_names, class_id)} {score:.2f}")


def class_colour(class_id: int) -> _Colour:
    """Return the colour of a class id; it depends on the id only."""
    saturation, value = _SATURATION_AND_VALUE[class_id % len(_SATURATION_AND_VALUE)]
    red, green, blue = colorsys.hsv_to_rgb(class_id * _HUE_STEP % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def class_name(class_names: Sequence[str], class_id: int) -> str:
    """Return the name of a class id as a label shows it: class_names[class_id - 1], or `class {id}` without a name."""
    name = class_names[class_id - 1] if 1 <= class_id <= len(class_names) else f"class {class_id}"
    return cut_to_length(name, _LONGEST_NAME)


def cut_to_length(name: str, longest: int) -> str:
    """Return a name without line breaks and control characters, cut to `longest` characters, the last a "…"."""
    line = "".join(letter if letter.isprintable() else " " for letter in name[: longest + 1])
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def draw_marks(image: Image.Image | np.ndarray, marks: Sequence[Mark], pixel_extent: float = 1.0) -> Image.Image:
    """Return a copy of an image with boxes, of which the first is on top and the first to choose its label's place.

    The image is a Pillow image of any mode, or an array uint8 RGB [H, W, 3]. Boxes are clipped to it; those that are
    inverted, not finite or completely outside are not drawn. `pixel_extent` is 1 where boxes are inclusive pixels from
    1 on, as in VOC, and 0 where they are edges, as in COCO: 0 to 2 are the first two pixels. Line width and font size
    scale with the image.
    """
    canvas = (Image.fromarray(image) if isinstance(image, np.ndarray) else image).convert("RGB")  # a copy
    drawn: list[tuple[_Corners, Mark, _Label | None]] = []
    for mark in marks:
        box_px = np.asarray(mark.box_yxyx_px, np.float64)
        if not np.isfinite(box_px).all():
            continue
        inclusive = box_px - [pixel_extent, pixel_extent, 1, 1]  # from 0 on
        ymin, xmin, ymax, xmax = np.rint(inclusive).clip(-1, max(canvas.size)).astype(int).tolist()
        corners = max(xmin, 0), max(ymin, 0), min(xmax, canvas.width - 1), min(ymax, canvas.height - 1)
        if corners[0] <= corners[2] and corners[1] <= corners[3]:
            occupied = [label.corners for _, _, label in drawn if label]
            drawn.append((corners, mark, _label(mark.text, corners, canvas.size, occupied) if mark.text else None))
    pen = ImageDraw.Draw(canvas)
    line_px = max(2, round(min(canvas.size) / 160))
    # a thin border in black or white separates boxes and labels from a background of the same colour
    border_px = max(1, line_px // 3)
    for (xmin, ymin, xmax, ymax), mark, label in drawn[::-1]:
        if label:
            around = (xmin - border_px, ymin - border_px, xmax + border_px, ymax + border_px)
            pen.rectangle(around, outline=_text_colour(mark.colour), width=line_px + 2 * border_px)
        width = line_px if label else max(1, line_px // 2)
        pen.rectangle((xmin, ymin, xmax, ymax), outline=mark.colour, width=width)
    for _, mark, label in drawn[::-1]:  # after all boxes, so that no line crosses a text
        if label:
            contrast, pad = _text_colour(mark.colour), _pad_px(label.font)
            pen.rectangle(label.corners, fill=mark.colour, outline=contrast, width=border_px)
            start = label.corners[0] + pad, label.corners[1] + pad // 2
            pen.text(start, mark.text, fill=contrast, font=label.font)
    return canvas


class _Label(NamedTuple):
    """The filled rectangle behind a text, and the text's font."""

    corners: _Corners
    font: ImageFont.FreeTypeFont


def _label(text: str, box: _Corners, size: tuple[int, int], occupied: Sequence[_Corners]) -> _Label:
    """Choose the font and the place of a box's label, inside an image of `size` (width, height).

    The font has 1/28 of the image's shorter side, or less if the text would not fit. Places are tried in this order:
    above the box, inside at its top, below it, inside at its bottom; first aligned with the left edge of the box, then
    with the right edge. The first that overlaps no occupied rectangle is taken; if there is none, the first.
    """
    letter_px = max(10, round(min(size) / 28))
    length = _font(letter_px).getlength(text) + 2 * _pad_px(_font(letter_px))
    font = _font(max(4, min(letter_px, int(letter_px * size[0] / length))))
    width, height = round(font.getlength(text)) + 2 * _pad_px(font), sum(font.getmetrics()) + _pad_px(font)
    tops = (box[1] - height, box[1], box[3] + 1, box[3] + 1 - height)
    inside = [top for top in tops if 0 <= top <= size[1] - height] or [0]
    lefts = [max(0, min(left, size[0] - width)) for left in (box[0], box[2] + 1 - width)]
    places = [(left, top, left + width - 1, top + height - 1) for left in lefts for top in inside]
    for left, top, right, bottom in places:
        if not any(left <= o[2] and o[0] <= right and top <= o[3] and o[1] <= bottom for o in occupied):
            return _Label((left, top, right, bottom), font)
    return _Label(places[0], font)


@lru_cache(maxsize=64)
def _font(letter_px: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=letter_px)
    assert isinstance(font, ImageFont.FreeTypeFont)  # every wheel of Pillow includes FreeType
    return font


def _pad_px(font: ImageFont.FreeTypeFont) -> int:
    return max(1, round(font.size / 5))


def _text_colour(background: _Colour) -> _Colour:
    """Return black or white, whichever has the higher contrast ratio to the background: WCAG 2, relative luminance."""
    parts = [value / 255 for value in background]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # The contrast ratio is (lighter + .05) / (darker + .05): equal for black and white at sqrt(.05 * 1.05) - .05.
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def reduced(picture: Image.Image, longest: int) -> Image.Image:
    """Return a picture with a longer side of at most `longest` pixels."""
    factor = longest / max(picture.size)
    if factor >= 1:
        return picture
    return picture.resize([max(1, round(side * factor)) for side in picture.size], Image.Resampling.LANCZOS)


def save_sheet(pictures: Sequence[Image.Image], path: str | Path) -> None:
    """Write pictures, at least one and all of one size, as a JPEG in rows of about as many; the folder must exist."""
    small = [reduced(picture, _SHEET_SIDE) for picture in pictures]
    columns = math.ceil(math.sqrt(len(small)))
    width, height = (side + _SHEET_GAP for side in small[0].size)
    size = columns * width - _SHEET_GAP, math.ceil(len(small) / columns) * height - _SHEET_GAP
    sheet = Image.new("RGB", size, "white")
    for number, picture in enumerate(small):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    with whole_file(path) as unfinished:
        sheet.save(unfinished, format="JPEG", quality=90)
