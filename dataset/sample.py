"""The drawn sample set: shapes of five classes, scenes of them with exact boxes, and a folder in VOC layout."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
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

Color = tuple[int, ...]  # red, green, blue in [0, 255]
Point = tuple[float, float]

_BRIGHT = ((220, 40, 40), (240, 150, 30), (245, 220, 50), (50, 160, 70), (40, 90, 200), (150, 60, 180))
_SCALES = ((240, 120, 30), (245, 200, 50), (60, 190, 200))
_DARK, _WHITE, _GLASS = (35, 35, 40), (240, 240, 240), (170, 210, 235)
_BROWN = ((110, 75, 45), (90, 60, 40), (130, 95, 65))


class _Pen:
    """Fills shapes on a transparent canvas of width x height pixels, in coordinates from 0 to 1, x right and y down."""

    def __init__(self, width: int, height: int, rng: np.random.Generator):
        self.image, self.size, self.rng = Image.new("RGBA", (width, height)), (width, height), rng
        self._draw = ImageDraw.Draw(self.image)

    def _pixels(self, *points: Point) -> list[Point]:
        return [(x * (self.size[0] - 1), y * (self.size[1] - 1)) for x, y in points]

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        self._draw.polygon(self._pixels(*points), fill=color)

    def rectangle(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        self._draw.rectangle(self._pixels((left, top), (right, bottom)), fill=color)

    def ellipse(self, x: float, y: float, radii: Point, color: Color, degrees: Point = (0, 360)) -> None:
        # degrees of the sector that is filled, clockwise from the right
        box = self._pixels((x - radii[0], y - radii[1]), (x + radii[0], y + radii[1]))
        self._draw.pieslice(box, *degrees, fill=color)

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        self._draw.line(self._pixels(*points), fill=color, width=max(1, round(width * min(self.size))), joint="curve")

    def color(self, colors: Sequence[Color]) -> Color:
        """Return one of the colours, slightly varied."""
        base = np.array(colors[int(self.rng.integers(len(colors)))]) + self.rng.integers(-25, 26, 3)
        return tuple(base.clip(0, 255).tolist())


def _ball(pen: _Pen) -> None:
    first, second = pen.color(_BRIGHT), pen.color([_WHITE])
    x, y = pen.rng.uniform(0.35, 0.65, 2)
    for number in range(6):
        pen.ellipse(x, y, (1, 1), first if number % 2 else second, (60 * number, 60 * number + 60))
    pen.ellipse(x, y, (0.09, 0.09), pen.color(_BRIGHT))
    disc = Image.new("L", pen.size)
    ImageDraw.Draw(disc).ellipse((0, 0, pen.size[0] - 1, pen.size[1] - 1), fill=255)
    pen.image.putalpha(disc)


def _car(pen: _Pen) -> None:
    body = pen.color([(190, 30, 35), (40, 70, 160), (75, 85, 95), (225, 225, 230)])
    roof_left, roof_right = pen.rng.uniform(0.25, 0.33), pen.rng.uniform(0.62, 0.72)
    pen.polygon([(0.13, 0.46), (roof_left, 0.02), (roof_right, 0.02), (0.83, 0.46)], body)
    pen.polygon([(0.2, 0.43), (roof_left + 0.03, 0.1), (0.46, 0.1), (0.46, 0.43)], _GLASS)
    pen.polygon([(0.5, 0.43), (0.5, 0.1), (roof_right - 0.03, 0.1), (0.76, 0.43)], _GLASS)
    pen.polygon([(0, 0.5), (0.05, 0.42), (0.93, 0.42), (1, 0.55), (1, 0.82), (0, 0.82)], body)
    pen.line([(0.48, 0.44), (0.48, 0.8)], _DARK, 0.015)
    pen.rectangle(0.53, 0.52, 0.6, 0.56, _DARK)
    pen.rectangle(0, 0.74, 1, 0.82, _DARK)
    pen.ellipse(0.955, 0.58, (0.03, 0.06), (250, 240, 150))
    pen.rectangle(0, 0.52, 0.03, 0.64, (200, 30, 30))
    hub = pen.color([(180, 180, 185)])
    for x in (0.22, 0.78):
        pen.ellipse(x, 0.8, (0.1, 0.2), _DARK)
        pen.ellipse(x, 0.8, (0.05, 0.1), hub)


def _fish(pen: _Pen) -> None:
    body, stripe, fin = pen.color(_SCALES), pen.color([_DARK, _WHITE]), pen.color(_SCALES)
    fork = pen.rng.uniform(0.08, 0.16)
    pen.polygon([(0.72, 0.5), (1, 0.08), (1 - fork, 0.5), (1, 0.92)], fin)
    pen.polygon([(0.3, 0.3), (0.42, 0.0), (0.68, 0.12), (0.7, 0.35)], fin)
    pen.polygon([(0.4, 0.75), (0.5, 1.0), (0.62, 0.72)], fin)
    pen.ellipse(0.4, 0.5, (0.4, 0.36), body)
    for x in (0.34, 0.48, 0.62):
        half = 0.36 * math.sqrt(1 - ((x + 0.02 - 0.4) / 0.4) ** 2)
        edges = [(x, 0.5 - half), (x + 0.05, 0.5 - half * 0.9), (x + 0.05, 0.5 + half * 0.9), (x, 0.5 + half)]
        pen.polygon([*edges, (x + 0.03, 0.5)], stripe)
    pen.polygon([(0.38, 0.52), (0.52, 0.64), (0.38, 0.68)], fin)
    pen.line([(0.0, 0.53), (0.1, 0.56)], _DARK, 0.02)
    pen.ellipse(0.16, 0.42, (0.055, 0.085), (245, 245, 240))
    pen.ellipse(0.15, 0.42, (0.03, 0.045), _DARK)


def _house(pen: _Pen) -> None:
    wall = pen.color([(200, 180, 150), (170, 80, 60), (225, 225, 215), (150, 160, 175), (215, 190, 110)])
    roof, door = pen.color([(140, 50, 40), (80, 80, 90), (100, 65, 50)]), pen.color(_BROWN)
    joint = tuple(max(part - 45, 0) for part in wall)
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
    pen.ellipse(left + 0.16, 0.83, (0.018, 0.018), (230, 200, 80))
    for x in (0.18, 0.64):
        if abs(x - left) > 0.25:
            pen.rectangle(x, 0.5, x + 0.2, 0.74, (245, 245, 245))
            pen.rectangle(x + 0.02, 0.52, x + 0.18, 0.72, _GLASS)
            pen.line([(x + 0.1, 0.5), (x + 0.1, 0.74)], (245, 245, 245), 0.02)
            pen.line([(x, 0.62), (x + 0.2, 0.62)], (245, 245, 245), 0.02)


def _tree(pen: _Pen) -> None:
    bark, leaves = pen.color(_BROWN), pen.color([(50, 120, 45), (80, 145, 50), (35, 95, 60), (110, 140, 40)])
    pen.polygon([(0.4, 1), (0.46, 0.5), (0.54, 0.5), (0.61, 1)], bark)
    pen.line([(0.5, 0.72), (0.25, 0.5)], bark, 0.05)
    pen.line([(0.5, 0.68), (0.75, 0.48)], bark, 0.05)
    for light in (-25, 0, 25):
        for _ in range(9):
            angle, distance = pen.rng.uniform(0, 2 * math.pi), math.sqrt(pen.rng.uniform(0, 1))
            x = 0.5 + 0.34 * distance * math.cos(angle)
            y = 0.32 - 0.006 * light + 0.2 * distance * math.sin(angle)
            radii = pen.rng.uniform(0.07, 0.15), pen.rng.uniform(0.07, 0.15)
            pen.ellipse(x, y, radii, tuple(min(max(part + light, 0), 255) for part in leaves))


# class -> how it is drawn, its width / height, its largest rotation to either side in degrees
SHAPES: dict[str, tuple[Callable[[_Pen], None], float, float]] = {
    "ball": (_ball, 1.0, 180),
    "car": (_car, 2.1, 10),
    "fish": (_fish, 1.8, 25),
    "house": (_house, 1.05, 4),
    "tree": (_tree, 0.75, 8),
}
CLASS_NAMES = tuple(sorted(SHAPES))

_SUPERSAMPLING, _PLACEMENT_TRIALS = 2, 30
_MIN_VISIBLE = 0.35  # fraction of an object's pixels that objects in front of it must leave visible


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
    owner = np.full((height, width), -1)  # the number of the object that each pixel shows
    placed: list[tuple[str, int, int]] = []  # class, pixels of the object, pixels inside the image
    for scale in scales:
        name = CLASS_NAMES[rng.integers(len(CLASS_NAMES))]
        sprite = _sprite(name, rng, width * scale, height * scale)
        mask = np.asarray(sprite.getchannel("A")) > 127
        visible = np.bincount(owner[owner >= 0], minlength=len(placed))
        least_visible = _MIN_VISIBLE * np.array([inside for _, _, inside in placed])
        for _ in range(_PLACEMENT_TRIALS):
            outside = 0.45 if rng.random() < 0.15 else 0.0  # fraction of the object that may lie outside the image
            margins = int(sprite.width * outside), int(sprite.height * outside)
            x = int(rng.integers(-margins[0], max(width - sprite.width + margins[0], -margins[0]) + 1))
            y = int(rng.integers(-margins[1], max(height - sprite.height + margins[1], -margins[1]) + 1))
            shown = mask[max(-y, 0) : height - y, max(-x, 0) : width - x]
            window = owner[max(y, 0) :, max(x, 0) :][: shown.shape[0], : shown.shape[1]]
            hidden = np.bincount(window[shown & (window >= 0)], minlength=len(placed))
            if (visible - hidden >= least_visible).all():
                window[shown] = len(placed)
                image.paste(sprite, (x, y), sprite)
                placed.append((name, int(mask.sum()), int(shown.sum())))
                break
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
        color = (*rng.integers(0, 256, 3).tolist(), int(rng.integers(60, 256)))  # of random opacity
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        reach_x, reach_y = np.exp(rng.uniform(math.log(4), math.log(90), 2))
        kind = rng.integers(4)
        if kind < 2:
            draw_round_or_square = draw.rectangle if kind else draw.ellipse
            draw_round_or_square((x - reach_x, y - reach_y, x + reach_x, y + reach_y), fill=color)
        else:
            points = [(x + rng.uniform(-1, 1) * reach_x, y + rng.uniform(-1, 1) * reach_y) for _ in range(3)]
            if kind == 2:
                draw.polygon(points, fill=color)
            else:
                draw.line(points, fill=color, width=int(rng.integers(1, 9)))
    noise = np.float32(rng.uniform(2, 14)) * rng.standard_normal((height // 8, width // 8), np.float32)
    rough = Image.fromarray(noise).resize(image.size, Image.Resampling.BICUBIC)
    return Image.fromarray((np.asarray(image) + np.asarray(rough)[..., None]).clip(0, 255).astype(np.uint8))


def _sprite(name: str, rng: np.random.Generator, max_width: float, max_height: float) -> Image.Image:
    """Draw an object, lit from one side, as RGBA cropped to its pixels, so that it fits into a size in pixels."""
    draw, aspect, degrees = SHAPES[name]
    aspect *= rng.uniform(0.87, 1.15)
    height = min(max_height, max_width / aspect) * _SUPERSAMPLING
    pen = _Pen(max(round(height * aspect), 8), max(round(height), 8), rng)
    draw(pen)
    sprite = pen.image
    if rng.random() < 0.5:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    sprite = sprite.rotate(rng.uniform(-degrees, degrees), Image.Resampling.BILINEAR, expand=True)
    sprite = sprite.crop(sprite.getbbox()).reduce(_SUPERSAMPLING)
    angle, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.25)
    along_x = np.linspace(-1, 1, sprite.width, dtype=np.float32) * np.float32(slope * math.cos(angle))
    along_y = np.linspace(-1, 1, sprite.height, dtype=np.float32) * np.float32(slope * math.sin(angle))
    light = (1 + along_y[:, None] + along_x)[..., None] * np.float32(rng.uniform(0.65, 1.15))
    lit = _with_noise(np.asarray(sprite.convert("RGB")) * light, rng, 2, 12)
    lit.putalpha(sprite.getchannel("A"))
    return lit


def _annotate(visible: np.ndarray, name: str, total: int, inside: int) -> LabelledObject:
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    box = (int(rows[0]) + 1, int(columns[0]) + 1, int(rows[-1]) + 1, int(columns[-1]) + 1)
    is_small = min(box[2] - box[0], box[3] - box[1]) < 0.07 * min(visible.shape)
    difficult = visible.sum() < 0.6 * inside or inside < 0.5 * total or is_small
    return LabelledObject(name, box, bool(difficult), truncated=inside < 0.95 * total)


def _photograph(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur an image slightly, change its gamma, exposure and tint, and add sensor noise."""
    image = image.filter(ImageFilter.BoxBlur(rng.uniform(0, 0.8)))
    grey = np.linspace(0, 1, 256) ** rng.uniform(0.8, 1.25)
    exposure = 255 * rng.uniform(0.75, 1.25) * rng.uniform(0.92, 1.08, 3)
    # [3, 256] -> one list, channel after channel
    image = image.point((exposure[:, None] * grey).clip(0, 255).astype(int).ravel().tolist())
    return _with_noise(np.asarray(image), rng, 0, 6)


def _with_noise(pixels: np.ndarray, rng: np.random.Generator, least: float, most: float) -> Image.Image:
    """Add normal noise, alike in all channels, of a random strength in grey levels to pixels [h, w, 3]."""
    noise = np.float32(rng.uniform(least, most)) * rng.standard_normal((*pixels.shape[:2], 1), np.float32)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


_MARKER = "sample.json"  # tells a drawn sample from other VOC directories
_OBJECT_COUNTS = (0.04, 0.16, 0.22, 0.22, 0.17, 0.11, 0.08)  # fraction of images with 0, 1, 2, … objects


def make(output_directory: str | Path, *, num_train: int = 200, num_test: int = 50, seed: int = 0) -> None:
    """Write VOC2007 (trainval) and VOC2007TEST (test) with drawn pictures, and `labels.txt` with their classes.

    The same arguments give the same files; pictures of one split do not depend on the number of the other. Image sets
    are written last, so that an interrupted run leaves nothing that can be converted. A UserError if the folder has a
    VOC directory that is not a drawn sample, or another program is writing there.
    """
    root = Path(output_directory)
    main = Path("ImageSets", "Main")
    splits = (("VOC2007", main / "trainval.txt", num_train), ("VOC2007TEST", main / "test.txt", num_test))
    with locked(root, "--output_directory"):
        for split, image_set, _ in splits:
            if (root / split).exists() and not (root / _MARKER).exists():
                raise UserError(
                    f"{root / split} exists and is not a drawn sample: choose another --output_directory, "
                    "so that your data is not mixed with drawn pictures"
                )
            (root / split / image_set).unlink(missing_ok=True)
        marker = json.dumps({"num_train": num_train, "num_test": num_test, "seed": seed})
        text_files.write_whole(root / _MARKER, f"{marker}\n")
        labels.write_labels(root / LABELS_FILE, CLASS_NAMES)
        for index, (split, _, number) in enumerate(splits):
            (root / split / "JPEGImages").mkdir(parents=True, exist_ok=True)
            for item in tqdm(range(number), desc=split, unit="picture", disable=None):
                rng = np.random.default_rng([seed, index, item])
                image, objects = draw_scene(rng, int(rng.choice(len(_OBJECT_COUNTS), p=_OBJECT_COUNTS)))
                name = f"{index}{item:05d}"
                image.save(root / split / "JPEGImages" / f"{name}.jpg", quality=90)
                text_files.write_whole(voc.annotation_path(root / split, name), _xml(split, name, image.size, objects))
        for index, (split, image_set, number) in enumerate(splits):
            text_files.write_whole(root / split / image_set, "".join(f"{index}{item:05d}\n" for item in range(number)))
    log(f"wrote {num_train} + {num_test} pictures of {', '.join(CLASS_NAMES)} to {root}")


def _xml(folder: str, name: str, size: tuple[int, int], objects: Sequence[LabelledObject]) -> str:
    """Return the annotation of the picture `name`.jpg as VOC writes it; `size` is width, height in pixels."""
    text = f"<annotation>\n\t<folder>{folder}</folder>\n\t<filename>{name}.jpg</filename>\n"
    text += "\t<source><database>Drawn sample</database></source>\n"
    text += f"\t<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>\n"
    text += "\t<segmented>0</segmented>\n"
    for item in objects:
        ymin, xmin, ymax, xmax = item.box_yxyx_px
        text += f"\t<object>\n\t\t<name>{item.name}</name>\n\t\t<pose>Unspecified</pose>\n"
        text += f"\t\t<truncated>{item.truncated:d}</truncated>\n\t\t<difficult>{item.difficult:d}</difficult>\n"
        text += f"\t\t<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>\n"
        text += "\t</object>\n"
    return text + "</annotation>\n"
