"""What the demo is given, and videos: frames of files and cameras read with PyAV, and H.264 in MP4 written."""

from __future__ import annotations

import contextlib
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dataset.sources import folders
from utility.errors import UserError
from utility.run.log import first_line

# the suffixes by which video files are told from pictures
_VIDEO = re.compile(r"\.(3gp|avi|flv|m2ts|m4v|mkv|mov|mp4|mpeg|mpg|mts|ogv|ts|webm|wmv)", re.IGNORECASE)


def parse_inputs(texts: Sequence[str], output: Path) -> tuple[list[Path], list[Path], int | None]:
    """Return what --input names, pictures (those of folders too), videos, and the number of a camera or None.

    A UserError if a folder has no picture, a camera is not alone or has no number, or a file would be drawn in the
    folder `output` to where another is drawn, or one is read.
    """
    if any(text.startswith("camera:") for text in texts):
        number = re.fullmatch(r"camera:([0-9]{1,3})", texts[0])
        if number is None or len(texts) > 1:
            raise UserError(f"--input={' '.join(texts)}: a camera is camera:0, camera:1, ..., and one input alone")
        return [], [], int(number[1])
    paths: list[Path] = []
    for path in map(Path, texts):
        inside = sorted(filter(folders.is_picture, path.iterdir())) if path.is_dir() else [path]
        if not inside:
            below = next((other.parent for other in path.rglob("*") if folders.is_picture(other)), None)
            hint = f"; {below} has some" if below else ""
            none = f"there is no picture ({', '.join(folders.SUFFIXES)}) in this folder"
            raise UserError(f"--input={path}: {none}{hint}")
        paths += inside
    drawn_from: dict[Path, Path] = {}
    for path in paths:
        drawn = drawn_path(path, output)
        # where names are the same in upper and lower case, or linked, only the file system knows
        is_input = drawn.exists() and path.exists() and drawn.samefile(path)
        if drawn.resolve() in drawn_from or is_input:
            other = drawn_from.get(drawn.resolve(), path)
            raise UserError(f"--output={output}: {path} would be drawn over {other}; take another folder")
        drawn_from[drawn.resolve()] = path
    videos = [path for path in paths if _VIDEO.fullmatch(path.suffix)]
    return [path for path in paths if path not in videos], videos, None


def drawn_path(path: Path, output: Path) -> Path:
    """Return the file in the folder `output` that a picture or video is drawn to."""
    return output / f"{path.stem}{'.mp4' if _VIDEO.fullmatch(path.suffix) else '.jpg'}"


class VideoError(UserError):
    """A video or camera that cannot be read, or not to its end; the message names it."""


class Frame(NamedTuple):
    """A frame: its number from 0, seconds since the first frame, and upright pixels, RGB uint8 [h, w, 3]."""

    number: int
    time: Fraction
    image: np.ndarray


def _pyav() -> Any:
    try:
        import av  # noqa: PLC0415 (optional, and heavy)
    except ImportError as error:
        raise VideoError("videos and cameras need PyAV: pip install -r requirements-video.txt") from error
    av.logging.set_level(None)  # FFmpeg's own chatter; what matters comes as an exception
    return av


class Video(contextlib.AbstractContextManager["Video"]):
    """An open video file or camera, as a context manager.

    `size` is (width, height) of the upright frames; `rate` frames a second; `time_base` the unit of their times in
    seconds; `pixel_aspect` the width of an upright pixel over its height; `length` about how many frames there are,
    None if unknown. A VideoError if it cannot be opened, or has no frames, or PyAV is missing.
    """

    def __init__(self, source: Path | int):
        """Open a file, or the camera of a number, and decode the first frame."""
        self.name = str(source) if isinstance(source, Path) else f"camera:{source}"
        av = _pyav()
        self._errors: Any = (av.FFmpegError, OSError)
        self._closed, self._decoding = False, threading.Lock()
        try:
            if isinstance(source, int):
                self._container = _open_camera(av, source)
            else:
                source.open("rb").close()  # Python says best what keeps it from being opened
                # a colon in a name would mean a protocol
                self._container = av.open(f"file:{source}", metadata_errors="ignore")
        except (av.InvalidDataError, av.EOFError) as error:
            raise VideoError(f"{self.name}: this is no video, or it is cut off") from error
        except self._errors as error:
            raise VideoError(f"{self.name}: cannot be opened: {first_line(error)}") from error
        try:
            if not self._container.streams.video:
                raise VideoError(f"{self.name}: there is no video in this file")
            self._stream = self._container.streams.best("video")
            self._stream.thread_type = "AUTO"
            self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
            self.time_base = Fraction(self._stream.time_base or 1 / self.rate)
            self._seconds: Fraction | None = None  # how long the video is by its header, if that tells
            if self._stream.duration:
                self._seconds = self._stream.duration * Fraction(self._stream.time_base)
            elif self._container.duration and len(self._container.streams) == 1:  # else it may be that of the sound
                self._seconds = Fraction(self._container.duration, av.time_base)
            self.length = self._stream.frames or (round(self._seconds * self.rate) if self._seconds else None)
            self._packets = self._container.demux(self._stream)
            self._rest = self._read()
            self._first = next(self._rest)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        """Close the file or camera; another thread that reads it just now gets a VideoError for its next frame."""
        self._closed = True
        # to free what a thread decodes with would crash the process; if a camera hangs, it stays open to the end
        if self._decoding.acquire(timeout=5.0):
            self._container.close()
            self._decoding.release()

    def frames(self) -> Iterator[Frame]:
        """Yield all frames, once, in the order of their times, which increase.

        A VideoError after the last frame that is whole, if the video breaks off, or changes its size.
        """
        return chain([self._first], self._rest)

    def _read(self) -> Iterator[Frame]:
        number, start, last, damaged = 0, None, -1 / self.rate, 0
        for frame in self._decoded():
            if frame is None:
                damaged += 1
                continue
            turns = round(frame.rotation / 90)  # counterclockwise, as phones tell in the metadata
            image = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
            if number == 0:
                self.size: tuple[int, int] = image.shape[1], image.shape[0]
                aspect = Fraction(self._stream.sample_aspect_ratio or 1) or Fraction(1)
                self.pixel_aspect = 1 / aspect if turns % 2 else aspect
            elif image.shape[1::-1] != self.size:
                was, now = ("x".join(map(str, size)) for size in (self.size, image.shape[1::-1]))
                raise VideoError(f"{self.name}: the size changes from {was} to {now} at frame {number}; it ends there")
            time = due = last + 1 / self.rate
            if frame.pts is not None:
                told = frame.pts * Fraction(frame.time_base)
                start = told - due if start is None else start
                time = told - start if told - start > last else due
            yield Frame(number, time, image)
            number, last = number + 1, time
        if not number:
            raise VideoError(f"{self.name}: there are no frames in this video")
        end, promised = last + 1 / self.rate, self._seconds or Fraction(0)
        if end < promised - max(Fraction(1, 2), promised / 20):  # durations in headers are not exact
            parts = f"{float(end):.1f} of its {float(promised):.1f} seconds"
            raise VideoError(f"{self.name}: is cut off: there are {number} frames, {parts}")
        if damaged:
            raise VideoError(f"{self.name}: {damaged} damaged parts were left out; {number} frames were whole")

    def _decoded(self) -> Iterator[Any]:
        """Yield PyAV's frames; None for each part of the file that the decoder refuses."""
        while True:
            with self._decoding:
                if self._closed:
                    raise VideoError(f"{self.name}: was closed")
                try:
                    packet = next(self._packets, None)
                except self._errors as error:
                    raise VideoError(f"{self.name}: breaks off: {first_line(error)}") from error
                if packet is None:
                    return
                try:
                    frames = packet.decode()
                except EOFError:
                    return
                except self._errors:
                    frames = [None]
            yield from frames


def _open_camera(av: Any, number: int) -> Any:
    """Open a camera by the input device of FFmpeg for this system."""
    if sys.platform == "darwin":
        return av.open(f"{number}:none", format="avfoundation", options={"framerate": "30"})
    if sys.platform != "win32":
        return av.open(f"/dev/video{number}", format="v4l2")
    devices = [device for device in av.device.enumerate_input_devices("dshow") if "video" in device.media_types]
    if number >= len(devices):
        raise OSError(f"there are {len(devices)} cameras, counted from 0")
    return av.open(f"video={devices[number].name}", format="dshow")


def newest(frames: Iterator[Frame], stop: threading.Event) -> Iterator[Frame]:
    """Yield the newest of a camera's frames until `stop`, without those that came while the last was looked at."""
    slot: queue.Queue[Frame | Exception | None] = queue.Queue(maxsize=1)

    def read() -> None:
        item: Frame | Exception | None = None
        while not stop.is_set():
            try:
                item = next(frames, None)
            except Exception as error:  # for the other thread
                item = error
            with contextlib.suppress(queue.Empty):
                slot.get_nowait()
            slot.put(item)
            if not isinstance(item, Frame):
                break

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while not stop.is_set() and (item := slot.get()) is not None:
        if isinstance(item, Exception):
            raise item
        yield item
    stop.set()
    reader.join(timeout=2)


# A part of the file is whole after each key frame, so that it plays whatever ends the program; once closed, it is an
# ordinary MP4 file.
_MUXER = {"movflags": "hybrid_fragmented", "flush_packets": "1"}
# CRF 20 is hardly told from the original. Without B-frames, times start at 0. Every 60th frame is a key frame.
_ENCODER = {"preset": "veryfast", "crf": "20", "bf": "0", "g": "60"}
_FINEST = Fraction(1, 1_000_000)  # seconds; some recorders count nanoseconds
_MOST_RATE = Fraction(240)  # frames a second that the file states; the times of the frames are what counts


@contextlib.contextmanager
def video_writer(path: Path, like: Video) -> Iterator[Callable[[np.ndarray, Fraction], None]]:
    """Yield a function that writes frames of a video's size, rate and times to a file, which is whole at the end.

    It takes a frame, RGB uint8 [h, w, 3], and the seconds from which on it is shown, more than those of the one before.
    H.264 halves the resolution of colour, so that a side of an odd number of pixels gets one more, a copy of the last.
    """
    av = _pyav()
    time_base = like.time_base if like.time_base > _FINEST else Fraction(1, 90000)
    with av.open(str(path), "w", format="mp4", options=_MUXER) as container:
        stream = container.add_stream("libx264", rate=min(like.rate, _MOST_RATE), options=_ENCODER)
        stream.width, stream.height = (side + side % 2 for side in like.size)
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base, codec.sample_aspect_ratio = time_base, like.pixel_aspect
        codec.colorspace = codec.color_primaries = codec.color_trc = 1  # FFmpeg's number of BT.709
        codec.color_range = 1  # limited
        last = -1

        def write(image: np.ndarray, time: Fraction) -> None:
            nonlocal last
            height, width = image.shape[:2]
            even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            last = max(round(time / time_base), last + 1)
            frame.pts, frame.time_base = last, time_base
            container.mux(stream.encode(frame))

        try:
            yield write
        finally:
            container.mux(stream.encode(None))  # what the encoder still holds
