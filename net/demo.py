"""The demo's ways through its inputs: pictures, a video, a camera."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset import video
from dataset.input import pictures_input_fn
from dataset.sources import pictures
from dataset.video import Frame, Video, VideoWriter, newest
from net.prediction import predict_pictures
from utility.config.settings import Config
from utility.drawing.detections import draw_detections
from utility.drawing.window import Window
from utility.files.json_files import JsonLines, JsonList
from utility.run.log import log, progress

# Detections as other programs take them over: the objects of a picture with their class names, in pixels.

_CORNERS = ("ymin", "xmin", "ymax", "xmax")


def boxes_px(found: dict[str, np.ndarray]) -> np.ndarray:
    """Return the boxes of a picture, as `predict_pictures` yields it, in pixels as in results files."""
    return found["boxes_yxyx"] * np.tile(found["size"], 2)


def objects(found: dict[str, np.ndarray], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the objects of a picture, as `predict_pictures` yields it, the highest score first, ready for JSON.

    Each has `class`, its name; `score` in [0, 1] and `box` with xmin, ymin, xmax, ymax in pixels of the picture.
    """
    rows = zip(boxes_px(found), found["scores"], found["classes"], strict=True)
    return [
        {"class": class_names[class_id - 1], "score": round(float(score), 6), "box": _box(corners)}
        for corners, score, class_id in rows
    ]


def _box(corners_px: np.ndarray) -> dict[str, float]:
    rounded = {name: round(float(value), 2) for name, value in zip(_CORNERS, corners_px, strict=True)}
    return {name: rounded[name] for name in ("xmin", "ymin", "xmax", "ymax")}


# A trained network that detects in pictures as they come, and draws what it finds.

Item = TypeVar("Item")
Found = dict[str, np.ndarray]  # the detections in a picture, as `predict_pictures` yields them


@dataclass(frozen=True)
class Detector:
    """An Estimator with the checkpoint and the config of its variables."""

    estimator: tf.estimator.Estimator
    checkpoint: str
    config: Config

    def detect(self, pictures: Iterable[tuple[Item, np.ndarray]]) -> Iterator[tuple[Item, np.ndarray, Found]]:
        """Yield each item with its picture, RGB uint8 [h, w, 3], and the detections in it, in order.

        Pictures are taken as they are needed, a few ahead. An exception in `pictures` is raised after the detections
        in those before it.
        """
        waiting: deque[tuple[Item, np.ndarray]] = deque()  # as many as the input function reads ahead
        failed: list[Exception] = []

        def images() -> Iterator[tuple[str, np.ndarray]]:
            try:
                for item, image in pictures:
                    waiting.append((item, image))
                    yield "", image
            except Exception as error:  # TensorFlow would make another one of it
                failed.append(error)

        for found in predict_pictures(self.estimator, pictures_input_fn(images, self.config), self.checkpoint):
            yield *waiting.popleft(), found
        if failed:
            raise failed[0]

    def draw(self, image: np.ndarray, found: Found) -> Image.Image:
        """Return a picture with its detections drawn in."""
        boxes = boxes_px(found)
        return draw_detections(image, boxes, found["scores"], found["classes"], self.config.class_names)

    def objects(self, found: Found) -> list[dict[str, Any]]:
        """Return the detections in a picture as entries of JSON."""
        return objects(found, self.config.class_names)


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

    with JsonList(output / video.LIST_NAME) as entries:
        for path, image, found in detector.detect(readable()):
            detector.draw(image, found).save(video.target(path, output), quality=92)
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
    drawn = video.target(path, output)
    lines_path = drawn.with_suffix(".jsonl")
    with Video(path) as source:
        found_in = detector.detect((frame, frame.image) for frame in source.frames())
        found_in = chain([next(found_in)], found_in)  # what was drawn before stays if the network cannot start
        count, start = 0, time.monotonic()
        try:
            with VideoWriter(drawn, source) as writer, JsonLines(lines_path) as lines:
                for frame, image, found in progress(found_in, source.length, " frames"):
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
