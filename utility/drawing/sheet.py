"""Pictures side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from utility.files.whole_files import whole_file

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
