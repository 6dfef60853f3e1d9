"""Videos written frame by frame, as players and browsers open them: H.264 in MP4."""

from __future__ import annotations

import contextlib
import queue
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from dataset.sources import folders
from utility.errors import UserError
from utility.run.log import first_line

# What the demo is told to look at: pictures, videos, or a camera; and the files that it draws to.

LIST_NAME = "detections.json"
_CAMERA = re.compile(r"camera:([0-9]{1,3})")


@dataclass(frozen=True)
class Inputs:
    """Pictures, videos, or the number of a camera and nothing else."""

    pictures: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()
    camera: int | None = None


def read(inputs: Sequence[str]) -> Inputs:
    """Return what --input names: files, the pictures in folders, or a camera.

    Raises:
        UserError: a folder has no picture, or a camera is not alone or has no number.
    """
    if any(text.startswith("camera:") for text in inputs):
        number = _CAMERA.fullmatch(inputs[0])
        if number is None or len(inputs) > 1:
            raise UserError(f"--input={' '.join(inputs)}: a camera is camera:0, camera:1, ..., and one input alone")
        return Inputs(camera=int(number[1]))
    paths: list[Path] = []
    for path in map(Path, inputs):
        inside = sorted(filter(folders.is_picture, path.iterdir())) if path.is_dir() else [path]
        if not inside:
            below = next((other.parent for other in path.rglob("*") if folders.is_picture(other)), None)
            hint = f"; {below} has some" if below else ""
            none = f"there is no picture ({', '.join(folders.SUFFIXES)}) in this folder"
            raise UserError(f"--input={path}: {none}{hint}")
        paths += inside
    videos = tuple(path for path in paths if is_video(path))
    return Inputs(tuple(path for path in paths if path not in videos), videos)


def is_video(path: Path) -> bool:
    """Tell whether a file is a video by its name."""
    return path.suffix.lower() in SUFFIXES


def target(path: Path, output: Path) -> Path:
    """Return the file in the folder `output` that a picture or video is drawn to."""
    return output / f"{path.stem}{'.mp4' if is_video(path) else '.jpg'}"


def check(inputs: Inputs, output: Path) -> None:
    """Refuse to draw two inputs to one file, or over one that is read, and videos that cannot be read.

    Raises:
        UserError: in these cases; it names the file.
    """
    targets: dict[Path, Path] = {}
    for path in (*inputs.pictures, *inputs.videos):
        drawn = target(path, output)
        # where names are the same in upper and lower case, or linked, only the file system knows
        is_input = drawn.resolve() == path.resolve() or (drawn.exists() and path.exists() and drawn.samefile(path))
        if drawn.resolve() in targets or is_input:
            other = targets.get(drawn.resolve(), path)
            raise UserError(f"--output={output}: {path} would be drawn over {other}; take another folder")
        targets[drawn.resolve()] = path
    for path in inputs.videos:
        Video(path).close()


# The frames of video files and cameras, read with PyAV.

SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
)
"""The extensions, in any case, by which video files are told from pictures."""

REQUIREMENT = "PyAV: pip install -r requirements-video.txt"
_USUAL_RATE = Fraction(25)  # frames a second, where a video tells none
_MAY_LACK = Fraction(1, 20)  # of a video's length: durations in headers are not exact
_PATIENCE = 5.0  # seconds that closing waits for a frame
_CAMERAS = {"darwin": "avfoundation", "win32": "dshow"}  # FFmpeg's input devices; elsewhere v4l2


class VideoError(UserError):
    """A video or camera that cannot be read, or not to its end; the message names it."""


@dataclass(frozen=True)
class Frame:
    """A frame: its number from 0, seconds since the first frame, and upright pixels, RGB uint8 [h, w, 3]."""

    number: int
    time: Fraction
    image: np.ndarray


def library() -> Any:
    """Return PyAV; a VideoError that tells how to install it where it is missing."""
    try:
        import av  # noqa: PLC0415 (optional, and heavy)
    except ImportError as error:
        raise VideoError(f"videos and cameras need {REQUIREMENT}") from error
    av.logging.set_level(None)  # FFmpeg's own chatter; what matters comes as an exception
    return av


class Video:
    """An open video file or camera, as a context manager.

    `size` is (width, height) of the upright frames; `rate` frames a second; `time_base` the unit of their times in
    seconds; `pixel_aspect` the width of an upright pixel over its height; `length` about how many frames there are,
    None if unknown.

    Raises:
        VideoError: it cannot be opened, or has no frames; PyAV is missing.
    """

    def __init__(self, source: Path | int):
        """Open a file, or the camera of a number, and decode the first frame."""
        self.name = str(source) if isinstance(source, Path) else f"camera:{source}"
        av = library()
        try:
            self._container = _open_file(av, source) if isinstance(source, Path) else _open_camera(av, source)
        except (av.InvalidDataError, av.EOFError) as error:
            raise VideoError(f"{self.name}: this is no video, or it is cut off") from error
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self.name}: cannot be opened: {_reason(error)}") from error
        self._errors: Any = (av.FFmpegError, OSError)
        self._closed, self._decoding = False, threading.Lock()
        try:
            if not self._container.streams.video:
                raise VideoError(f"{self.name}: there is no video in this file")
            self._stream = self._container.streams.best("video")
            self._stream.thread_type = "AUTO"
            self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or _USUAL_RATE)
            self.time_base = Fraction(self._stream.time_base or 1 / self.rate)
            self._rest = self._read()
            self._first = next(self._rest)
        except BaseException:
            self.close()
            raise
        self.size = self._first.image.shape[1], self._first.image.shape[0]
        seconds = self._seconds()
        self.length = self._stream.frames or (round(seconds * self.rate) if seconds else None)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or camera; another thread that reads it just now gets a VideoError for its next frame."""
        self._closed = True
        # to free what a thread decodes with would crash the process; if a camera hangs, it stays open to the end
        if self._decoding.acquire(timeout=_PATIENCE):
            self._container.close()
            self._decoding.release()

    def frames(self) -> Iterator[Frame]:
        """Yield all frames, once, in the order of their times, which increase.

        Raises:
            VideoError: after the last frame that is whole, if the video breaks off, or changes its size.
        """
        return chain([self._first], self._rest)

    def _read(self) -> Iterator[Frame]:
        number, start, last, damaged = 0, Fraction(0), Fraction(-1), 0
        for frame in self._decoded():
            if frame is None:
                damaged += 1
                continue
            time = last + 1 / self.rate if frame.pts is None else frame.pts * Fraction(frame.time_base)
            if number == 0:
                start, self.pixel_aspect = time, _pixel_aspect(self._stream, frame)
            time = time - start if frame.pts is not None else time
            time = time if number == 0 or time > last else last + 1 / self.rate
            image = _upright(frame)
            if number and image.shape[1::-1] != self.size:
                was, now = ("x".join(map(str, size)) for size in (self.size, image.shape[1::-1]))
                raise VideoError(f"{self.name}: the size changes from {was} to {now} at frame {number}; it ends there")
            yield Frame(number, time, image)
            number, last = number + 1, time
        self._check_end(number, last, damaged)

    def _decoded(self) -> Iterator[Any]:
        """Yield PyAV's frames; None for each part of the file that the decoder refuses."""
        packets = self._container.demux(self._stream)
        while True:
            with self._decoding:
                if self._closed:
                    raise VideoError(f"{self.name}: was closed")
                frames = self._of_next_packet(packets)
            if frames is None:
                return
            yield from frames

    def _of_next_packet(self, packets: Iterator[Any]) -> list[Any] | None:
        """Return the frames that the next packet completes, [None] if the decoder refuses it; None at the end."""
        try:
            packet = next(packets, None)
        except self._errors as error:
            raise VideoError(f"{self.name}: breaks off: {_reason(error)}") from error
        try:
            return None if packet is None else packet.decode()
        except EOFError:
            return None
        except self._errors:
            return [None]

    def _check_end(self, number: int, last: Fraction, damaged: int) -> None:
        """Raise a VideoError if there is less than the header promises."""
        if not number:
            raise VideoError(f"{self.name}: there are no frames in this video")
        end, promised = last + 1 / self.rate, self._seconds() or Fraction(0)
        if end < promised - max(Fraction(1, 2), promised * _MAY_LACK):
            parts = f"{float(end):.1f} of its {float(promised):.1f} seconds"
            raise VideoError(f"{self.name}: is cut off: there are {number} frames, {parts}")
        if damaged:
            raise VideoError(f"{self.name}: {damaged} damaged parts were left out; {number} frames were whole")

    def _seconds(self) -> Fraction | None:
        """Return how long the video is by its header, None if that does not tell."""
        if self._stream.duration:
            return self._stream.duration * Fraction(self._stream.time_base)
        if self._container.duration and len(self._container.streams) == 1:  # else it may be that of the sound
            return Fraction(self._container.duration, library().time_base)
        return None


def newest(frames: Iterable[Frame], stop: threading.Event) -> Iterator[Frame]:
    """Yield the newest of a camera's frames until `stop`, without those that came while the last was looked at."""
    slot: queue.Queue[Frame | Exception | None] = queue.Queue(maxsize=1)

    def put(item: Frame | Exception | None) -> None:
        with contextlib.suppress(queue.Empty):
            slot.get_nowait()
        slot.put(item)

    def read() -> None:
        try:
            for frame in frames:
                if stop.is_set():
                    break
                put(frame)
            put(None)
        except Exception as error:  # for the other thread
            put(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    while not stop.is_set() and (item := slot.get()) is not None:
        if isinstance(item, Exception):
            raise item
        yield item
    stop.set()
    reader.join(timeout=2)


def _open_file(av: Any, path: Path) -> Any:
    with path.open("rb"):  # Python says best what keeps it from being opened
        pass
    return av.open(f"file:{path}", metadata_errors="ignore")  # a colon in a name would mean a protocol


def _open_camera(av: Any, number: int) -> Any:
    driver = _CAMERAS.get(sys.platform, "v4l2")
    if driver == "v4l2":
        return av.open(f"/dev/video{number}", format=driver)
    if driver == "avfoundation":
        return av.open(f"{number}:none", format=driver, options={"framerate": "30"})
    devices = [device for device in av.device.enumerate_input_devices(driver) if "video" in device.media_types]
    if number >= len(devices):
        raise OSError(f"there are {len(devices)} cameras, counted from 0")
    return av.open(f"video={devices[number].name}", format=driver)


def _upright(frame: Any) -> np.ndarray:
    """Return a frame's pixels, turned as the metadata of phones tell: counterclockwise, in degrees."""
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _pixel_aspect(stream: Any, frame: Any) -> Fraction:
    aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
    return 1 / aspect if round(frame.rotation / 90) % 2 else aspect


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or first_line(error)


# A part of the file is whole after each key frame, so that it plays whatever ends the program; once closed, it is an
# ordinary MP4 file.
_MUXER = {"movflags": "hybrid_fragmented", "flush_packets": "1"}
# CRF 20 is hardly told from the original. Without B-frames, times start at 0.
_ENCODER = {"preset": "veryfast", "crf": "20", "bf": "0"}
_KEY_FRAME_EVERY = 60  # frames
_FINEST = Fraction(1, 1_000_000)  # seconds; some recorders count nanoseconds
_MOST_RATE = Fraction(240)  # frames a second that the file states; the times of the frames are what counts
_BT709, _LIMITED = 1, 1  # FFmpeg's numbers of the colour space and range


class VideoWriter:
    """Writes frames of a video's size, rate and times to a file, as a context manager.

    H.264 halves the resolution of colour, so that a side of an odd number of pixels gets one more, a copy of the last.
    """

    def __init__(self, path: Path, like: Video):
        self._container: Any = library().open(str(path), "w", format="mp4", options=_MUXER)
        self._time_base = like.time_base if like.time_base > _FINEST else Fraction(1, 90000)
        self._last = -1
        rate = min(like.rate, _MOST_RATE)
        self._stream: Any = self._container.add_stream("libx264", rate=rate, options=_ENCODER)
        self._stream.width, self._stream.height = (side + side % 2 for side in like.size)
        self._stream.pix_fmt, self._stream.gop_size = "yuv420p", _KEY_FRAME_EVERY
        codec = self._stream.codec_context
        codec.time_base, codec.sample_aspect_ratio = self._time_base, like.pixel_aspect
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, image: np.ndarray, time: Fraction) -> None:
        """Write a frame, RGB uint8 [h, w, 3], that is shown from `time` seconds on, later than the one before."""
        height, width = image.shape[:2]
        even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = library().VideoFrame.from_ndarray(even, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        self._last = max(round(time / self._time_base), self._last + 1)
        frame.pts, frame.time_base = self._last, self._time_base
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds, and end the file."""
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()
