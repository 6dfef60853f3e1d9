"""Videos written frame by frame, as players and browsers open them: H.264 in MP4."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from dataset.video.reading import Video, library

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
