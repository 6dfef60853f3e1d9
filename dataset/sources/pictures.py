"""Reads picture files as the JPEGs of records: grey or RGB, and decodable to the last byte."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from preprocessing.views import reduced_side
from utility.errors import UserError

# The markers of a JPEG file: TensorFlow reads them to the end, Pillow only until the pixels are complete.

# Before a marker there may be more 0xff. Within compressed data, 0xff is written 0xff 0x00, and the markers 0xd0 to
# 0xd7 are a part of it. (xff+ would mean the same, but takes seven times as long.)
_MARKER = re.compile(rb"\xff\xff*([^\x00\xff\xd0-\xd7])", re.DOTALL)
_END_OF_IMAGE = 0xD9
_TABLES = frozenset({0xC4, 0xCC})
_FRAMES = frozenset(range(0xC0, 0xD0)) - _TABLES
# tables, scans, DNL, applications' data and comments (ITU T.81, table B.1)
_SEGMENTS = _TABLES | frozenset({0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})


def fault_of_markers(data: bytes) -> str:
    """Return what TensorFlow refuses in the markers of a JPEG that Pillow decodes, '' for nothing.

    A few corrupt pictures are refused that TensorFlow takes: with restart markers, libjpeg skips some unknown markers.
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


_ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that swap height and width
_JPEG_FORMATS = frozenset({"JPEG", "MPO"})  # an MPO, as phones write it, is a JPEG followed by further pictures
_JPEG_MODES = frozenset({"RGB", "L"})
# what a picture file may be, whatever its extension; Pillow would start other programs for some of the others
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")
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
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path}: the image cannot be read: {error.strerror}") from error
    try:
        with _opened(io.BytesIO(data)) as image:
            return _as_jpeg(image, data, annotated_size, max_side)
    except Exception as error:  # a broken file makes Pillow raise anything from OSError to struct.error
        reason = str(error).replace(str(path), "").partition(" <")[0]
        raise PictureError(f"{path}: the image cannot be decoded: {reason}") from error


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
    try:
        with _opened(path) as image:
            return np.asarray(_as_rgb(ImageOps.exif_transpose(image)))
    except Exception as error:  # as in read_picture
        raise PictureError(f"{path}: the image cannot be read: {str(error).partition(' <')[0]}") from error


def _opened(file: io.BytesIO | str | Path) -> Image.Image:
    """Open a picture without decoding it; a UserError if it has more pixels than TensorFlow decodes."""
    image = Image.open(file, formats=_FORMATS)
    if image.width * image.height > _MOST_PIXELS:
        raise UserError(
            f"its header gives {image.width}x{image.height} pixels, more than {_MOST_PIXELS}: make it smaller"
        )
    return image


def _as_jpeg(image: Image.Image, data: bytes, annotated_size: tuple[int, int], max_side: int | None) -> Picture:
    width, height = image.size
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in _SIDEWAYS and annotated_size == (width, height) != (height, width):
        return _made(ImageOps.exif_transpose(image), "turned upright", max_side)
    if image.format not in _JPEG_FORMATS or image.mode not in _JPEG_MODES:
        return _made(image, f"re-encoded {image.format} {image.mode}", max_side)
    if width * height > len(data) * _MOST_PIXELS_PER_BYTE:
        raise UserError(f"its header gives {width}x{height} pixels, too many for a file of {len(data)} bytes")
    fault = fault_of_markers(data)
    if fault:
        raise UserError(fault)
    note = "" if orientation == 1 else "EXIF orientation ignored"
    if max_side and max(image.size) > max_side:
        return _made(image, note, max_side)
    # grey at an eighth of the size takes half the time, and still entropy-decodes every byte
    image.draft("L", (1, 1))
    image.load()
    return Picture(data, height, width, note)


def _made(image: Image.Image, note: str, max_side: int | None) -> Picture:
    """Encode a picture, reduced if it is large."""
    reduced = f"reduced to {max_side} pixels" if max_side and max(image.size) > max_side else ""
    notes = ", ".join(part for part in (note, reduced) if part)
    return Picture(_encoded(_as_rgb(image), max_side), image.height, image.width, notes)


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


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would clip 16 bits to 255 instead of scaling them
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P":  # by way of RGBA, because a palette may have transparent colours
        image = image.convert("RGBA")
    return image.convert("RGB")


def upright_size(path: str | Path) -> tuple[int, int]:
    """Return height and width in pixels of a picture file with its EXIF orientation applied, from its header.

    Raises:
        PictureError: the file is missing, or is no picture.
    """
    try:
        with _opened(path) as image:
            # Pillow would decode a PNG to its end in search of an orientation
            sideways = image.format != "PNG" and image.getexif().get(_ORIENTATION) in _SIDEWAYS
            return (image.width, image.height) if sideways else (image.height, image.width)
    except Exception as error:  # as in read_picture
        reason = getattr(error, "strerror", None) or str(error).replace(str(path), "").partition(" <")[0]
        raise PictureError(f"{path}: the image cannot be read: {reason}") from error
