"""Reads picture files as the JPEGs of records: grey or RGB, and decodable to the last byte."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dataset.sources.jpeg_markers import fault_of_markers

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


class PictureError(ValueError):
    """A picture that is missing or does not decode; the message names the file."""


@dataclass(frozen=True)
class Picture:
    """A JPEG, its decoded size in pixels, and a note on what was done to the file, '' for nothing."""

    encoded: bytes
    height: int
    width: int
    note: str


def read_picture(path: str | Path, annotated_size: tuple[int, int]) -> Picture:
    """Read a picture file and decode it to its last byte.

    A grey or RGB JPEG is kept byte for byte. Everything else (PNG, CMYK, palette, 16 bits a channel)
    becomes an RGB JPEG of quality 95 without chroma subsampling; transparency is ignored.

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
            return _as_jpeg(image, data, annotated_size)
    except Exception as error:  # a broken file makes Pillow raise anything from OSError to struct.error
        reason = str(error).replace(str(path), "").partition(" <")[0]
        raise PictureError(f"{path}: the image cannot be decoded: {reason}") from error


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
    """Open a picture without decoding it; a ValueError if it has more pixels than TensorFlow decodes."""
    image = Image.open(file, formats=_FORMATS)
    if image.width * image.height > _MOST_PIXELS:
        raise ValueError(
            f"its header gives {image.width}x{image.height} pixels, more than {_MOST_PIXELS}: make it smaller"
        )
    return image


def _as_jpeg(image: Image.Image, data: bytes, annotated_size: tuple[int, int]) -> Picture:
    width, height = image.size
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in _SIDEWAYS and annotated_size == (width, height) != (height, width):
        return _encode(ImageOps.exif_transpose(image), "turned upright")
    if image.format not in _JPEG_FORMATS or image.mode not in _JPEG_MODES:
        return _encode(image, f"re-encoded {image.format} {image.mode}")
    if width * height > len(data) * _MOST_PIXELS_PER_BYTE:
        raise ValueError(f"its header gives {width}x{height} pixels, too many for a file of {len(data)} bytes")
    fault = fault_of_markers(data)
    if fault:
        raise ValueError(fault)
    # grey at an eighth of the size takes half the time, and still entropy-decodes every byte
    image.draft("L", (1, 1))
    image.load()
    return Picture(data, height, width, "" if orientation == 1 else "EXIF orientation ignored")


def _encode(image: Image.Image, note: str) -> Picture:
    buffer = io.BytesIO()
    _as_rgb(image).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return Picture(buffer.getvalue(), image.height, image.width, note)


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
