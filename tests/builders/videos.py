"""Short synthetic videos."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="pip install -r requirements-video.txt")

RATE = 10


def picture(number: int, size=(64, 48)) -> np.ndarray:
    """A grey picture, brighter from frame to frame, with a red stripe at the left and a blue one at the top."""
    width, height = size
    pixels = np.full((height, width, 3), 20 + 4 * number, np.uint8)
    pixels[:, : width // 4] = (255, 0, 0)
    pixels[: height // 4] = (0, 0, 255)
    return pixels


def write(path: Path, frames=20, times=None, *, rotation=0, codec="libx264", **options) -> Path:
    """Write a video of `picture`s; `times` of the frames are in hundredths of a second, evenly spaced by default."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=RATE)
        size = stream.width, stream.height = 64, 48
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 100)
        if rotation:
            stream.set_display_rotation(rotation)
        stream.codec_context.open()
        container.start_encoding()
        for number, time in enumerate(times or range(0, frames * 10, 10)):
            frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_pictures(path: Path, pictures, codec="ffv1") -> Path:
    """Write a video without loss, of pictures of one size, as an AVI file."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for number, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_changing(path: Path, sizes) -> Path:
    """Write a motion JPEG whose frames have the sizes given."""
    import io

    from PIL import Image

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=RATE)
        (stream.width, stream.height), stream.pix_fmt = sizes[0], "yuvj420p"
        stream.codec_context.open()
        for number, size in enumerate(sizes):
            jpeg = io.BytesIO()
            Image.fromarray(picture(number, size)).save(jpeg, "JPEG")
            packet = av.Packet(jpeg.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, RATE)
            container.mux(packet)
    return path


def cut(path: Path, part: float) -> Path:
    """Leave the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    return path
