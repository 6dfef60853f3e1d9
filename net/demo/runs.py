"""The demo's ways through its inputs: pictures, a video, a camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from dataset.sources import pictures
from dataset.video import inputs
from dataset.video.reading import Frame, Video, newest
from dataset.video.writing import VideoWriter
from net.demo.detector import Detector, Found
from utility.drawing.window import Window
from utility.files.json_entries import JsonLines, JsonList
from utility.run.log import log, progress


def draw_pictures(detector: Detector, paths: Sequence[Path], output: Path) -> int:
    """Draw pictures into a folder, and write detections.json there; returns how many could not be read."""
    unreadable: list[Path] = []

    def readable() -> Iterator[tuple[Path, np.ndarray]]:
        for path in paths:
            try:
                yield path, pictures.read_upright(path)
            except pictures.PictureError as error:
                unreadable.append(path)
                log(f"skipped {error}")

    with JsonList(output / inputs.LIST_NAME) as entries:
        for path, image, found in detector.detect(readable()):
            detector.draw(image, found).save(inputs.target(path, output), quality=92)
            height, width = map(int, found["size"])
            entry = {"file": str(path), "width": width, "height": height}
            entries.write({**entry, "objects": detector.objects(found)})
            log(f"{path}: {_best(found, detector.config.class_names)}")
    log(f"drew {len(paths) - len(unreadable)} of {len(paths)} pictures to {output}")
    return len(unreadable)


def _best(found: Found, class_names: Sequence[str]) -> str:
    scores, classes = found["scores"], found["classes"]
    best = [f"{class_names[c - 1]} {s:.2f}" for c, s in zip(classes[:5], scores[:5], strict=True)]
    more = f", and {len(scores) - 5} more" if len(scores) > 5 else ""
    return f"{', '.join(best) or 'nothing found'}{more}"


def draw_video(detector: Detector, path: Path, output: Path) -> None:
    """Draw a video into a folder, and write its detections there, a line a frame; in memory of a few frames.

    Raises:
        VideoError: the video breaks off; its frames before that are drawn.
    """
    drawn = inputs.target(path, output)
    lines_path = drawn.with_suffix(".jsonl")
    with Video(path) as video:
        found_in = detector.detect((frame, frame.image) for frame in video.frames())
        found_in = chain([next(found_in)], found_in)  # what was drawn before stays if the network cannot start
        count, start = 0, time.monotonic()
        try:
            with VideoWriter(drawn, video) as writer, JsonLines(lines_path) as lines:
                for frame, image, found in progress(found_in, video.length, " frames"):
                    writer.write(np.asarray(detector.draw(image, found)), frame.time)
                    seconds = round(float(frame.time), 6)
                    lines.write({"frame": frame.number, "time": seconds, "objects": detector.objects(found)})
                    count += 1
        finally:
            rate = count / (time.monotonic() - start)
            log(f"{path}: drew {count} frames, {rate:.1f} a second, to {drawn}; detections are in {lines_path}")


def show_camera(detector: Detector, number: int) -> None:
    """Show what a camera sees, with the detections, in a window until the user closes it."""
    stop = threading.Event()
    with Video(number) as camera, Window(camera.name) as window:
        log(f"{camera.name}: q or Esc in the window ends it")
        try:
            frames: Iterator[tuple[Frame, np.ndarray]] = (
                (frame, frame.image) for frame in newest(camera.frames(), stop)
            )
            for _, image, found in detector.detect(frames):
                if not window.show(detector.draw(image, found)):
                    break
        finally:
            stop.set()
