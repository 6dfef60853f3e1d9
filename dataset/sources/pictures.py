"""Reads picture files as the JPEGs of records: grey or RGB, and decodable to the last byte."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from preprocessing.views import reduced_side
from utility.errors import UserError

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that swap height and width
_JPEG_FORMATS = frozenset({"JPEG", "MPO"})  # an MPO, as phones write it, is a JPEG followed by further pictures
_JPEG_MODES = frozenset({"RGB", "L"})
# what a picture file may be, whatever its extension; Pillow would start other programs for some of the others
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error, zlib.error)  # by Pillow, of a file
_QUALITY = 95
_MOST_PIXELS = 2**29 // 3  # TensorFlow refuses 512 MiB of RGB (tensorflow/core/lib/jpeg/jpeg_mem.cc)
_MOST_PIXELS_PER_BYTE = 512  # a block of 8x8 pixels takes a bit, in each scan that is not left out

Image.MAX_IMAGE_PIXELS = None  # the limit is _MOST_PIXELS; Pillow would warn from half of it on


class PictureError(UserError):
    """A picture that is missing or does not decode; the message names the file."""


@dataclass(frozen=True)
class Picture:
    """A JPEG, the size in pixels of the picture as it came, and a note on what was done to it, '' for nothing."""

    encoded: bytes
    height: int
    width: int
    note: str


def read_picture(path: str | Path, annotated_size: tuple[int, int], max_side: int | None = None) -> Picture:
    """Read a picture file and decode it to its last byte.

    A grey or RGB JPEG is kept byte for byte. Everything else (PNG, CMYK, palette, 16 bits a channel)
    becomes an RGB JPEG of quality 95 without chroma subsampling; transparency is ignored. A picture with a side longer
    than `max_side` pixels is reduced, the longer side to `max_side`, with chroma subsampling.

    The EXIF orientation is applied only if it swaps height and width and `annotated_size`, (height, width) in pixels,
    is the size of the upright picture: then the boxes belong to the upright picture. Otherwise it is ignored, as
    TensorFlow does.

    Raises:
        PictureError: the file is missing, or is not a whole picture.
    """
    path = Path(path)
    with _opened(path) as image:
        width, height = image.size
        is_reduced = bool(max_side and max(width, height) > max_side)
        orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation in _SIDEWAYS and annotated_size == (width, height) != (height, width):
            height, width, note = width, height, "turned upright"
            rgb = _as_rgb(ImageOps.exif_transpose(image))
        elif image.format not in _JPEG_FORMATS or image.mode not in _JPEG_MODES:
            note = f"re-encoded {image.format} {image.mode}"
            rgb = _as_rgb(image)
        else:
            data = path.read_bytes()
            if width * height > len(data) * _MOST_PIXELS_PER_BYTE:
                raise UserError(f"its header gives {width}x{height} pixels, too many for a file of {len(data)} bytes")
            if fault := _fault_of_markers(data):
                raise UserError(fault)
            note = "" if orientation == 1 else "EXIF orientation ignored"
            if not is_reduced:
                # grey at an eighth of the size takes half the time, and still entropy-decodes every byte
                image.draft("L", (1, 1))
                image.load()
                return Picture(data, height, width, note)
            rgb = _as_rgb(image)
    if is_reduced:
        note += f"{', ' if note else ''}reduced to {max_side} pixels"
    return Picture(_encoded(rgb, max_side), height, width, note)


def cut_windows(picture: Picture, windows_px: Iterable[np.ndarray], max_side: int | None) -> list[bytes]:
    """Return JPEGs of parts of a picture that is not reduced; `windows_px` are ymin, xmin, ymax, xmax.

    A part with a side longer than `max_side` pixels is reduced.
    """
    with Image.open(io.BytesIO(picture.encoded)) as image:
        whole = _as_rgb(image)
    return [_encoded(whole.crop((xmin, ymin, xmax, ymax)), max_side) for ymin, xmin, ymax, xmax in windows_px]


def read_upright(path: str | Path) -> np.ndarray:
    """Read a picture file of any format, with its EXIF orientation applied, as RGB uint8 [height, width, 3].

    Raises:
        PictureError: the file is missing, or is not a whole picture.
    """
    with _opened(path) as image:
        return np.asarray(_as_rgb(ImageOps.exif_transpose(image)))


def upright_size(path: str | Path) -> tuple[int, int]:
    """Return height and width in pixels of a picture file with its EXIF orientation applied, from its header.

    Raises:
        PictureError: the file is missing, or is no picture.
    """
    with _opened(path) as image:
        # Pillow would decode a PNG to its end in search of an orientation
        is_sideways = image.format != "PNG" and image.getexif().get(_ORIENTATION) in _SIDEWAYS
        return (image.width, image.height) if is_sideways else (image.height, image.width)


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """Open a picture without decoding it; what Pillow raises, now or when it decodes, becomes a PictureError."""
    try:
        with Path(path).open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                size = f"{image.width}x{image.height}"
                raise UserError(f"its header gives {size} pixels, more than {_MOST_PIXELS}: make it smaller")
            yield image
    except _BROKEN as error:
        if isinstance(error, OSError) and error.strerror:
            raise PictureError(f"{path}: the image cannot be read: {error.strerror}") from error
        raise PictureError(f"{path}: the image cannot be decoded: {str(error).partition(' <')[0]}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would clip 16 bits to 255 instead of scaling them
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P":  # by way of RGBA, because a palette may have transparent colours
        image = image.convert("RGBA")
    return image.convert("RGB")


def _encoded(image: Image.Image, max_side: int | None) -> bytes:
    longer, subsampling = max(image.size), "4:4:4"
    if max_side and longer > max_side:
        subsampling = "4:2:0"  # as of cameras; decodes in two thirds of the time
        width, height = (max(1, reduced_side(side, longer, max_side)) for side in image.size)
        # Pillow's triangle is as wide as two new pixels, as in preprocessing/ssd_preprocessing.py
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, subsampling=subsampling)
    return buffer.getvalue()


# Before a marker there may be more 0xff. Within compressed data, 0xff is written 0xff 0x00, and the markers 0xd0 to
# 0xd7 are a part of it. (xff+ would mean the same, but takes seven times as long.)
_MARKER = re.compile(rb"\xff\xff*([^\x00\xff\xd0-\xd7])", re.DOTALL)
_END_OF_IMAGE = 0xD9
_TABLES = frozenset({0xC4, 0xCC})
_FRAMES = frozenset(range(0xC0, 0xD0)) - _TABLES
# tables, scans, DNL, applications' data and comments (ITU T.81, table B.1)
_SEGMENTS = _TABLES | frozenset({0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})


def _fault_of_markers(data: bytes) -> str:
    """Return what TensorFlow refuses in the markers of a JPEG that Pillow decodes, '' for nothing.

    TensorFlow reads them to the end, Pillow only until the pixels are complete. A few corrupt pictures are refused that
    TensorFlow takes: with restart markers, libjpeg skips some unknown markers.
    """
    position, frames = 2, 0
    while marker := _MARKER.search(data, position):
        code = marker[1][0]
        frames += code in _FRAMES
        if code == _END_OF_IMAGE:
            return ""
        if code not in _SEGMENTS and (code not in _FRAMES or frames > 1):
            return f"its data is corrupt: the marker 0x{code:02x} is not one that may be at byte {marker.start()}"
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return "it ends without an end-of-image marker, as if it were cut off"
