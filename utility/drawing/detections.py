"""Drawing detections on pictures with Pillow."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_Colour = tuple[int, int, int]
_Corners = tuple[int, int, int, int]  # xmin, ymin, xmax, ymax in pixels from 0, both ends inside, as Pillow's.

# Hue turns by a step from class to class, and saturation and value change. Of steps from 0 to 1 by .0005 this
# one sets the first 20 and the first 40 colours furthest apart (at least 18 and 13 in CIELAB).
_HUE_STEP = 0.616
_SATURATION_AND_VALUE = ((0.95, 1.0), (0.5, 1.0), (1.0, 0.6))
_BLACK: _Colour = (0, 0, 0)
_WHITE: _Colour = (255, 255, 255)


@dataclass(frozen=True)
class _Label:
    """A text and the filled rectangle behind it."""

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
    """Return a copy of a picture with a box, the class name and the score of each detection.

    A better detection is drawn over a worse one. Boxes are clipped to the picture; one that is inverted, not
    finite or wholly outside is left out. Lines and letters grow with the picture.

    Args:
        image: a picture of any mode, or uint8 RGB [H, W, 3].
        boxes_yxyx_px: [D, 4] in pixels of the picture, 1-based with both ends inside, as results hold them.
        scores: [D] in [0, 1].
        class_ids: [D] ints from 1.
        class_names: the name at index i has class id i + 1; an id without a name is drawn as `class {id}`.

    Raises:
        ValueError: the arrays are of unequal length, or the image is an array but not uint8 [H, W, 3].
    """
    picture = _as_rgb(image)
    boxes = np.asarray(boxes_yxyx_px, dtype=np.float64).reshape(-1, 4)
    if not len(boxes) == len(scores) == len(class_ids):
        raise ValueError(f"{len(boxes)} boxes, {len(scores)} scores and {len(class_ids)} class ids to draw")
    drawn: list[tuple[_Corners, _Label]] = []
    # The best comes first here, so that its label has the first choice of a place.
    for index in np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable").tolist():
        corners = _visible(boxes[index], picture.size)
        if corners is not None:
            class_id = int(class_ids[index])
            text = f"{_class_name(class_names, class_id)} {scores[index]:.2f}"
            taken = [label.corners for _, label in drawn]
            drawn.append((corners, _make_label(text, corners, class_colour(class_id), picture.size, taken)))
    _paint(picture, drawn[::-1])
    return picture


def class_colour(class_id: int) -> tuple[int, int, int]:
    """Return the RGB colour, 0..255, of a class id: always the same, and unlike those of other classes."""
    saturation, value = _SATURATION_AND_VALUE[class_id % len(_SATURATION_AND_VALUE)]
    red, green, blue = colorsys.hsv_to_rgb(class_id * _HUE_STEP % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _as_rgb(image: Image.Image | np.ndarray) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image array must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    return Image.fromarray(image).copy()


def _class_name(class_names: Sequence[str], class_id: int) -> str:
    return class_names[class_id - 1] if 1 <= class_id <= len(class_names) else f"class {class_id}"


def _visible(box_yxyx_px: np.ndarray, size: tuple[int, int]) -> _Corners | None:
    """Return the part of a 1-based box inside of a picture of (width, height), or None if there is none."""
    if not np.isfinite(box_yxyx_px).all():
        return None
    ymin, xmin, ymax, xmax = np.rint(box_yxyx_px - 1)
    width, height = size
    corners = max(xmin, 0), max(ymin, 0), min(xmax, width - 1), min(ymax, height - 1)
    if corners[0] > corners[2] or corners[1] > corners[3]:
        return None
    return int(corners[0]), int(corners[1]), int(corners[2]), int(corners[3])


def _make_label(text: str, box: _Corners, colour: _Colour, size: tuple[int, int], taken: Sequence[_Corners]) -> _Label:
    font = _fitting_font(text, size)
    ascent, descent = font.getmetrics()
    pad = _pad_px(font)
    width, height = round(font.getlength(text)) + 2 * pad, ascent + descent + pad
    return _Label(text, _place(box, (width, height), size, taken), font, colour)


def _fitting_font(text: str, size: tuple[int, int]) -> ImageFont.FreeTypeFont:
    """Return a font of about a 28th of the picture's shorter side, smaller where the text would not fit."""
    letter_px = max(10, round(min(size) / 28))
    length = _font(letter_px).getlength(text) + 2 * _pad_px(_font(letter_px))
    return _font(max(4, min(letter_px, int(letter_px * size[0] / length))))


@lru_cache(maxsize=64)
def _font(letter_px: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=letter_px)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Every wheel of Pillow has FreeType.
    return font


def _pad_px(font: ImageFont.FreeTypeFont) -> int:
    return max(1, round(font.size / 5))


def _place(box: _Corners, label: tuple[int, int], size: tuple[int, int], taken: Sequence[_Corners]) -> _Corners:
    """Return where a label of (width, height) goes: above its box, else inside at the top, else below.

    It lines up with the left end of the box, else with the right one. The first place that is free is taken,
    and without one the first; all are inside of the picture.
    """
    width, height = label
    tops = (box[1] - height, box[1], box[3] + 1, box[3] + 1 - height)
    inside = [top for top in tops if 0 <= top <= size[1] - height] or [0]
    lefts = [max(0, min(left, size[0] - width)) for left in (box[0], box[2] + 1 - width)]
    places = [(left, top, left + width - 1, top + height - 1) for left in lefts for top in inside]
    free = (place for place in places if not any(_overlap(place, other) for other in taken))
    return next(free, places[0])


def _overlap(a: _Corners, b: _Corners) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _paint(picture: Image.Image, drawn: Sequence[tuple[_Corners, _Label]]) -> None:
    """Paint boxes and then labels, so that no line crosses a text.

    A thin rim of the text's colour sets them apart from a background, or another label, of their own colour.
    """
    pen = ImageDraw.Draw(picture)
    line_px = max(2, round(min(picture.size) / 160))
    rim_px = max(1, line_px // 3)
    for corners, label in drawn:
        rim = _text_colour(label.colour)
        pen.rectangle(_grown(corners, rim_px), outline=rim, width=line_px + 2 * rim_px)
        pen.rectangle(corners, outline=label.colour, width=line_px)
    for _, label in drawn:
        pad = _pad_px(label.font)
        pen.rectangle(label.corners, fill=label.colour, outline=_text_colour(label.colour), width=rim_px)
        start = label.corners[0] + pad, label.corners[1] + pad // 2
        pen.text(start, label.text, fill=_text_colour(label.colour), font=label.font)


def _grown(corners: _Corners, by: int) -> _Corners:
    return corners[0] - by, corners[1] - by, corners[2] + by, corners[3] + by


def _text_colour(background: _Colour) -> _Colour:
    """Return black or white, whichever has more contrast by the WCAG's relative luminance."""
    parts = [value / 255 for value in background]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Contrast is (lighter + .05) / (darker + .05): equal for black and white at sqrt(.05 * 1.05) - .05.
    return _BLACK if luminance > 0.179 else _WHITE
