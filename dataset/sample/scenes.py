"""Scenes of drawn objects on cluttered backgrounds, with exact boxes.

Sizes, positions, light and colours are random; a scene depends only on its random generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dataset.sample.shapes import SHAPES, Pen, Shape
from dataset.sources.annotations import LabelledObject

CLASS_NAMES = tuple(sorted(SHAPES))

_SUPERSAMPLING = 2
_PLACEMENT_TRIALS = 30
_MIN_VISIBLE = 0.35  # fraction of an object's pixels that objects in front of it must leave visible
_DIFFICULT_VISIBLE = 0.6  # an object is difficult if a smaller fraction of it is visible, or inside the image
_DIFFICULT_INSIDE = 0.5
_DIFFICULT_SIDE = 0.07  # or if its shorter side is below this fraction of the image's shorter side
_TRUNCATED_INSIDE = 0.95


def draw_scene(rng: np.random.Generator, num_objects: int) -> tuple[Image.Image, list[LabelledObject]]:
    """Draw an image of about 500x375, either way up, with up to `num_objects` objects.

    Boxes are tight around the visible pixels, 1-based and inclusive. Objects that are mostly hidden, cut off or very
    small are difficult.
    """
    long, short = int(rng.integers(440, 501)), int(rng.integers(333, 376))
    width, height = (long, short) if rng.random() < 0.7 else (short, long)
    image = _background(rng, width, height)
    # small objects in front, so that few are hidden; log-uniform: as many from .1 to .3 as from .3 to .9
    scales = np.sort(np.exp(rng.uniform(math.log(0.1), math.log(0.9), num_objects)))[::-1]
    owner = np.full((height, width), -1)
    placed: list[tuple[str, int, int]] = []  # class, pixels of the object, pixels inside the image
    for scale in scales:
        name = CLASS_NAMES[rng.integers(len(CLASS_NAMES))]
        sprite = _sprite(SHAPES[name], rng, width * scale, height * scale)
        place = _find_place(sprite, owner, [inside for _, _, inside in placed], rng)
        if place is not None:
            window, mask = _window(owner, sprite, place)
            window[mask] = len(placed)
            image.paste(sprite, place, sprite)
            placed.append((name, int(_mask(sprite).sum()), int(mask.sum())))
    objects = [_annotate(owner == index, *facts) for index, facts in enumerate(placed)]
    return _photograph(image, rng), objects


def _background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw soft patches of colour, clutter of simple shapes, and a rough texture."""
    grid = tuple(rng.integers(2, 6, 2))
    # slightly tinted grey, because photographs rarely have pure colours
    patches = rng.uniform(40, 216, (*grid, 1)) + rng.uniform(-40, 40, (*grid, 3))
    image = Image.fromarray(patches.clip(0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(rng.integers(10, 45)):
        _clutter(draw, rng, width, height)
    coarse = Image.fromarray(_noise(rng, height // 8, width // 8, rng.uniform(2, 14))[..., 0])
    return _roughened(image, np.asarray(coarse.resize(image.size, Image.Resampling.BICUBIC))[..., None])


def _clutter(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int) -> None:
    """Draw one ellipse, rectangle, triangle or bent line of random opacity."""
    color = (*(int(part) for part in rng.integers(0, 256, 3)), int(rng.integers(60, 256)))
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    reach_x, reach_y = np.exp(rng.uniform(math.log(4), math.log(90), 2))
    kind = rng.integers(4)
    if kind == 0:
        draw.ellipse((x - reach_x, y - reach_y, x + reach_x, y + reach_y), fill=color)
    elif kind == 1:
        draw.rectangle((x - reach_x, y - reach_y, x + reach_x, y + reach_y), fill=color)
    else:
        points = [(x + rng.uniform(-1, 1) * reach_x, y + rng.uniform(-1, 1) * reach_y) for _ in range(3)]
        if kind == 2:
            draw.polygon(points, fill=color)
        else:
            draw.line(points, fill=color, width=int(rng.integers(1, 9)))


def _sprite(shape: Shape, rng: np.random.Generator, max_width: float, max_height: float) -> Image.Image:
    """Draw an object, lit from one side, as RGBA cropped to its pixels; it fits into the given size in pixels."""
    aspect = shape.aspect * rng.uniform(0.87, 1.15)
    height = min(max_height, max_width / aspect)
    canvas = (max(round(height * aspect * _SUPERSAMPLING), 8), max(round(height * _SUPERSAMPLING), 8))
    pen = Pen(*canvas, rng)
    shape.draw(pen)
    sprite = pen.image
    if rng.random() < 0.5:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    sprite = sprite.rotate(rng.uniform(-shape.degrees, shape.degrees), Image.Resampling.BILINEAR, expand=True)
    sprite = sprite.crop(sprite.getbbox())
    sprite = sprite.reduce(_SUPERSAMPLING)
    return _lit(sprite, rng)


def _lit(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Shade an object from a bright to a dark side, change its brightness, and add noise."""
    angle, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.25)
    along_x = np.linspace(-1, 1, sprite.width, dtype=np.float32) * np.float32(slope * math.cos(angle))
    along_y = np.linspace(-1, 1, sprite.height, dtype=np.float32) * np.float32(slope * math.sin(angle))
    light = (1 + along_y[:, None] + along_x)[..., None] * np.float32(rng.uniform(0.65, 1.15))
    noise = _noise(rng, sprite.height, sprite.width, rng.uniform(2, 12))
    pixels = np.asarray(sprite.convert("RGB")) * light + noise
    lit = Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
    lit.putalpha(sprite.getchannel("A"))
    return lit


def _mask(sprite: Image.Image) -> np.ndarray:
    """Return bool [height, width]: the pixels of the object."""
    return np.asarray(sprite.getchannel("A")) > 127


def _find_place(
    sprite: Image.Image, owner: np.ndarray, inside: Sequence[int], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Return x, y of the sprite's top left corner, such that enough of each object behind it is visible, or None."""
    height, width = owner.shape
    visible = np.bincount(owner[owner >= 0], minlength=len(inside))
    min_visible = _MIN_VISIBLE * np.array(inside)
    for _ in range(_PLACEMENT_TRIALS):
        outside = 0.45 if rng.random() < 0.15 else 0.0  # fraction of the sprite that may lie outside the image
        place = (
            _random_position(rng, width, sprite.width, outside),
            _random_position(rng, height, sprite.height, outside),
        )
        window, mask = _window(owner, sprite, place)
        hidden = window[mask & (window >= 0)]
        if (visible - np.bincount(hidden, minlength=len(inside)) >= min_visible).all():
            return place
    return None


def _random_position(rng: np.random.Generator, image_side: int, side: int, outside: float) -> int:
    margin = int(side * outside)
    return int(rng.integers(-margin, max(image_side - side + margin, -margin) + 1))


def _window(owner: np.ndarray, sprite: Image.Image, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a view of `owner` under the sprite, and the sprite's mask, cropped to the image; both [h, w]."""
    x, y = place
    height, width = owner.shape
    mask = _mask(sprite)[max(-y, 0) : height - y, max(-x, 0) : width - x]
    top, left = max(y, 0), max(x, 0)
    return owner[top : top + mask.shape[0], left : left + mask.shape[1]], mask


def _annotate(visible: np.ndarray, name: str, total: int, inside: int) -> LabelledObject:
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    box = (int(rows[0]) + 1, int(columns[0]) + 1, int(rows[-1]) + 1, int(columns[-1]) + 1)
    min_side = _DIFFICULT_SIDE * min(visible.shape)
    difficult = (
        visible.sum() < _DIFFICULT_VISIBLE * inside
        or inside < _DIFFICULT_INSIDE * total
        or min(box[2] - box[0], box[3] - box[1]) < min_side
    )
    return LabelledObject(name, box, bool(difficult), inside < _TRUNCATED_INSIDE * total)


def _photograph(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur an image slightly, change its gamma, exposure and tint, and add sensor noise."""
    image = image.filter(ImageFilter.BoxBlur(rng.uniform(0, 0.8)))
    grey = np.linspace(0, 1, 256) ** rng.uniform(0.8, 1.25)
    exposure = 255 * rng.uniform(0.75, 1.25) * rng.uniform(0.92, 1.08, 3)
    # [3, 256] -> one list, channel after channel
    image = image.point((exposure[:, None] * grey).clip(0, 255).astype(int).ravel().tolist())
    return _roughened(image, _noise(rng, image.height, image.width, rng.uniform(0, 6)))


def _noise(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    """Return normal noise, float32 [height, width, 1], in grey levels."""
    return rng.standard_normal((height, width, 1), np.float32) * np.float32(strength)


def _roughened(image: Image.Image, noise: np.ndarray) -> Image.Image:
    pixels = np.asarray(image) + noise
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
