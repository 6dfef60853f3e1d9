"""The classes of the sample set, drawn with Pillow: ball, car, fish, house and tree."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

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
