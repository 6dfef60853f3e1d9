"""The sample set in VOC layout: pictures of drawn scenes, annotations and image sets."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from dataset.sources import labels, voc
from dataset.sources.annotations import LabelledObject
from utility.config.settings import LABELS_FILE
from utility.errors import UserError
from utility.files import text_files
from utility.run.folder_lock import locked
from utility.run.log import log

# The classes of the sample set, drawn with Pillow: ball, car, fish, house and tree.

Color = tuple[int, int, int]
Point = tuple[float, float]


class Pen:
    """Draws on a transparent canvas in coordinates from 0 to 1, x to the right and y down."""

    def __init__(self, width: int, height: int, rng: np.random.Generator):
        self.image = Image.new("RGBA", (width, height))
        self.draw = ImageDraw.Draw(self.image)
        self.size = (width, height)
        self.rng = rng

    def points(self, points: Sequence[Point]) -> list[Point]:
        """Return points in pixels."""
        return [(x * (self.size[0] - 1), y * (self.size[1] - 1)) for x, y in points]

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """Fill a polygon."""
        self.draw.polygon(self.points(points), fill=(*color, 255))

    def rectangle(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """Fill a rectangle."""
        self.draw.rectangle(self._box(left, top, right, bottom), fill=(*color, 255))

    def ellipse(self, x: float, y: float, radius_x: float, radius_y: float, color: Color) -> None:
        """Fill an ellipse around a centre."""
        box = self._box(x - radius_x, y - radius_y, x + radius_x, y + radius_y)
        self.draw.ellipse(box, fill=(*color, 255))

    def sector(self, x: float, y: float, radius: float, degrees: Point, color: Color) -> None:
        """Fill the sector of a circle between two angles, in degrees clockwise from the right."""
        box = self._box(x - radius, y - radius, x + radius, y + radius)
        self.draw.pieslice(box, *degrees, fill=(*color, 255))

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        """Draw a line through points; its width is a fraction of the canvas's shorter side."""
        pixels = max(1, round(width * min(self.size)))
        self.draw.line(self.points(points), fill=(*color, 255), width=pixels, joint="curve")

    def color(self, hues: Sequence[Color]) -> Color:
        """Return one of the colours, slightly varied."""
        base = np.array(hues[int(self.rng.integers(len(hues)))]) + self.rng.integers(-25, 26, 3)
        red, green, blue = base.clip(0, 255).tolist()
        return red, green, blue

    def _box(self, left: float, top: float, right: float, bottom: float) -> list[Point]:
        return self.points([(left, top), (right, bottom)])


_BRIGHT: tuple[Color, ...] = (
    (220, 40, 40),
    (240, 150, 30),
    (245, 220, 50),
    (50, 160, 70),
    (40, 90, 200),
    (150, 60, 180),
)
_PAINTS: tuple[Color, ...] = ((190, 30, 35), (40, 70, 160), (75, 85, 95), (225, 225, 230))
_SCALES: tuple[Color, ...] = ((240, 120, 30), (245, 200, 50), (60, 190, 200))
_DARK: Color = (35, 35, 40)
_WHITE: Color = (240, 240, 240)
_GLASS: Color = (170, 210, 235)
_BROWN: tuple[Color, ...] = ((110, 75, 45), (90, 60, 40), (130, 95, 65))
_LEAVES: tuple[Color, ...] = ((50, 120, 45), (80, 145, 50), (35, 95, 60), (110, 140, 40))
_WALLS: tuple[Color, ...] = ((200, 180, 150), (170, 80, 60), (225, 225, 215), (150, 160, 175), (215, 190, 110))
_ROOFS: tuple[Color, ...] = ((140, 50, 40), (80, 80, 90), (100, 65, 50))


def _ball(pen: Pen) -> None:
    """Draw a beach ball: white and coloured sectors that meet off the centre, around a cap."""
    first, second = pen.color(_BRIGHT), pen.color([_WHITE])
    x, y = pen.rng.uniform(0.35, 0.65, 2)
    for number in range(6):
        pen.sector(x, y, 1.0, (60 * number, 60 * number + 60), first if number % 2 else second)
    pen.ellipse(x, y, 0.09, 0.09, pen.color(_BRIGHT))
    disc = Image.new("L", pen.size)
    ImageDraw.Draw(disc).ellipse((0, 0, pen.size[0] - 1, pen.size[1] - 1), fill=255)
    pen.image.putalpha(disc)


def _car(pen: Pen) -> None:
    """Draw a car from the side: body, cabin with two windows, wheels with hubs, lamps."""
    body = pen.color(_PAINTS)
    roof_left, roof_right = pen.rng.uniform(0.25, 0.33), pen.rng.uniform(0.62, 0.72)
    pen.polygon([(0.13, 0.46), (roof_left, 0.02), (roof_right, 0.02), (0.83, 0.46)], body)
    pen.polygon([(0.2, 0.43), (roof_left + 0.03, 0.1), (0.46, 0.1), (0.46, 0.43)], _GLASS)
    pen.polygon([(0.5, 0.43), (0.5, 0.1), (roof_right - 0.03, 0.1), (0.76, 0.43)], _GLASS)
    pen.polygon([(0, 0.5), (0.05, 0.42), (0.93, 0.42), (1, 0.55), (1, 0.82), (0, 0.82)], body)
    pen.line([(0.48, 0.44), (0.48, 0.8)], _DARK, 0.015)
    pen.rectangle(0.53, 0.52, 0.6, 0.56, _DARK)
    pen.rectangle(0, 0.74, 1, 0.82, _DARK)
    pen.ellipse(0.955, 0.58, 0.03, 0.06, (250, 240, 150))
    pen.rectangle(0, 0.52, 0.03, 0.64, (200, 30, 30))
    hub = pen.color([(180, 180, 185)])
    for x in (0.22, 0.78):
        pen.ellipse(x, 0.8, 0.1, 0.2, _DARK)
        pen.ellipse(x, 0.8, 0.05, 0.1, hub)


def _fish(pen: Pen) -> None:
    """Draw a fish: striped body, forked tail, fins, an eye."""
    body, stripe, fin = pen.color(_SCALES), pen.color([_DARK, _WHITE]), pen.color(_SCALES)
    fork = pen.rng.uniform(0.08, 0.16)
    pen.polygon([(0.72, 0.5), (1, 0.08), (1 - fork, 0.5), (1, 0.92)], fin)
    pen.polygon([(0.3, 0.3), (0.42, 0.0), (0.68, 0.12), (0.7, 0.35)], fin)
    pen.polygon([(0.4, 0.75), (0.5, 1.0), (0.62, 0.72)], fin)
    pen.ellipse(0.4, 0.5, 0.4, 0.36, body)
    for x in (0.34, 0.48, 0.62):
        half = 0.36 * math.sqrt(1 - ((x + 0.02 - 0.4) / 0.4) ** 2)
        edges = [(x, 0.5 - half), (x + 0.05, 0.5 - half * 0.9), (x + 0.05, 0.5 + half * 0.9), (x, 0.5 + half)]
        pen.polygon([*edges, (x + 0.03, 0.5)], stripe)
    pen.polygon([(0.38, 0.52), (0.52, 0.64), (0.38, 0.68)], fin)
    pen.line([(0.0, 0.53), (0.1, 0.56)], _DARK, 0.02)
    pen.ellipse(0.16, 0.42, 0.055, 0.085, (245, 245, 240))
    pen.ellipse(0.15, 0.42, 0.03, 0.045, _DARK)


def _house(pen: Pen) -> None:
    """Draw a house: brick wall, gable, chimney, door and windows with crossbars."""
    wall, roof, door = pen.color(_WALLS), pen.color(_ROOFS), pen.color(_BROWN)
    joint = (max(wall[0] - 45, 0), max(wall[1] - 45, 0), max(wall[2] - 45, 0))
    pen.rectangle(0.7, 0.04, 0.82, 0.35, roof)
    pen.rectangle(0.08, 0.38, 0.92, 1, wall)
    for row in range(10):
        y = 0.42 + 0.06 * row
        pen.line([(0.08, y), (0.92, y)], joint, 0.008)
        for column in range(7):
            x = 0.12 + 0.12 * column + 0.06 * (row % 2)
            pen.line([(x, y), (x, min(y + 0.06, 1))], joint, 0.008)
    pen.polygon([(0, 0.42), (0.5, 0), (1, 0.42)], roof)
    left = pen.rng.uniform(0.15, 0.62)
    pen.rectangle(left, 0.64, left + 0.2, 1, door)
    pen.ellipse(left + 0.16, 0.83, 0.018, 0.018, (230, 200, 80))
    for x in (0.18, 0.64):
        if abs(x - left) > 0.25:
            pen.rectangle(x, 0.5, x + 0.2, 0.74, (245, 245, 245))
            pen.rectangle(x + 0.02, 0.52, x + 0.18, 0.72, _GLASS)
            pen.line([(x + 0.1, 0.5), (x + 0.1, 0.74)], (245, 245, 245), 0.02)
            pen.line([(x, 0.62), (x + 0.2, 0.62)], (245, 245, 245), 0.02)


def _tree(pen: Pen) -> None:
    """Draw a tree: a trunk with branches under a crown of leaves."""
    bark, leaves = pen.color(_BROWN), pen.color(_LEAVES)
    pen.polygon([(0.4, 1), (0.46, 0.5), (0.54, 0.5), (0.61, 1)], bark)
    pen.line([(0.5, 0.72), (0.25, 0.5)], bark, 0.05)
    pen.line([(0.5, 0.68), (0.75, 0.48)], bark, 0.05)
    for light in (-25, 0, 25):
        for _ in range(9):
            angle, distance = pen.rng.uniform(0, 2 * math.pi), math.sqrt(pen.rng.uniform(0, 1))
            x = 0.5 + 0.34 * distance * math.cos(angle)
            y = 0.32 - 0.006 * light + 0.2 * distance * math.sin(angle)
            red, green, blue = (min(max(part + light, 0), 255) for part in leaves)
            pen.ellipse(x, y, pen.rng.uniform(0.07, 0.15), pen.rng.uniform(0.07, 0.15), (red, green, blue))


@dataclass(frozen=True)
class Shape:
    """How a class is drawn, its width divided by its height, and its largest rotation to either side in degrees."""

    draw: Callable[[Pen], None]
    aspect: float
    degrees: float


SHAPES = {
    "ball": Shape(_ball, 1.0, 180),
    "car": Shape(_car, 2.1, 10),
    "fish": Shape(_fish, 1.8, 25),
    "house": Shape(_house, 1.05, 4),
    "tree": Shape(_tree, 0.75, 8),
}


# Scenes of drawn objects on cluttered backgrounds, with exact boxes.

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


_SPLITS = (("VOC2007", "trainval"), ("VOC2007TEST", "test"))
_MARKER = "sample.json"  # tells a drawn sample from other VOC directories
_OBJECT_COUNTS = (0.04, 0.16, 0.22, 0.22, 0.17, 0.11, 0.08)  # fraction of images with 0, 1, 2, … objects
_QUALITY = 90


def make(output_directory: str | Path, *, num_train: int = 200, num_test: int = 50, seed: int = 0) -> None:
    """Write VOC2007 (trainval) and VOC2007TEST (test) with drawn pictures, and `labels.txt` with their classes.

    The same arguments give the same files; pictures of one split do not depend on the number of the other. Image sets
    are written last, so that an interrupted run leaves nothing that can be converted.

    Raises:
        UserError: a number is too small, the folder has a VOC directory that is not a drawn sample, or another
            program is writing there.
    """
    root = Path(output_directory)
    for name, value, least in (("num_train", num_train, 1), ("num_test", num_test, 1), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"--{name}={value} must be at least {least}")
    with locked(root, "--output_directory"):
        _draw(root, {"num_train": num_train, "num_test": num_test}, seed)
    log(f"wrote {num_train} + {num_test} pictures of {', '.join(CLASS_NAMES)} to {root}")


def _draw(root: Path, numbers: Mapping[str, int], seed: int) -> None:
    """Draw the sample set into a folder; the numbers of pictures are those of the splits, by flag."""
    foreign = [root / split for split, _ in _SPLITS if (root / split).exists()]
    if foreign and not (root / _MARKER).exists():
        raise UserError(
            f"{foreign[0]} exists and is not a drawn sample: choose another --output_directory, "
            "so that your data is not mixed with drawn pictures"
        )
    for split, image_set in _SPLITS:
        (root / split / "ImageSets" / "Main" / f"{image_set}.txt").unlink(missing_ok=True)
    text_files.write_whole(root / _MARKER, json.dumps({**numbers, "seed": seed}) + "\n")
    labels.write_labels(root / LABELS_FILE, CLASS_NAMES)
    ids = {
        split: _draw_split(root / split, number, [seed, index])
        for index, ((split, _), number) in enumerate(zip(_SPLITS, numbers.values(), strict=True))
    }
    for split, image_set in _SPLITS:
        path = root / split / "ImageSets" / "Main" / f"{image_set}.txt"
        text_files.write_whole(path, "".join(f"{image_id}\n" for image_id in ids[split]))


def _draw_split(split_dir: Path, number: int, seed: list[int]) -> list[str]:
    """Write the pictures and annotations of a split, and return their ids."""
    images = split_dir / "JPEGImages"
    images.mkdir(parents=True, exist_ok=True)
    ids = [f"{seed[1]}{index:05d}" for index in range(number)]
    for index, image_id in enumerate(tqdm(ids, desc=split_dir.name, unit="picture", disable=None)):
        rng = np.random.default_rng([*seed, index])
        image, objects = draw_scene(rng, int(rng.choice(len(_OBJECT_COUNTS), p=_OBJECT_COUNTS)))
        image.save(images / f"{image_id}.jpg", quality=_QUALITY)
        text = _annotation(f"{image_id}.jpg", split_dir.name, image.size, objects)
        text_files.write_whole(voc.annotation_path(split_dir, image_id), text)
    return ids


def _annotation(filename: str, folder: str, size: tuple[int, int], objects: Sequence[LabelledObject]) -> str:
    """Return the XML of an annotation as VOC writes it; `size` is width, height in pixels."""
    return (
        f"<annotation>\n\t<folder>{folder}</folder>\n\t<filename>{filename}</filename>\n"
        "\t<source><database>Drawn sample</database></source>\n"
        f"\t<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>\n"
        "\t<segmented>0</segmented>\n"
        f"{''.join(map(_object, objects))}</annotation>\n"
    )


def _object(voc_object: LabelledObject) -> str:
    ymin, xmin, ymax, xmax = voc_object.box_yxyx_px
    return (
        f"\t<object>\n\t\t<name>{voc_object.name}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>{voc_object.truncated:d}</truncated>\n"
        f"\t\t<difficult>{voc_object.difficult:d}</difficult>\n"
        f"\t\t<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>\n"
        "\t</object>\n"
    )
