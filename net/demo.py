"""The demo: what a trained network finds in pictures, in a video or before a camera, drawn."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.input import pictures_input_fn
from dataset.sources import pictures
from dataset.video import Video, drawn_path, newest, video_writer
from net.prediction import Found, predict_pictures
from utility.config.settings import Config
from utility.drawing.detections import detection_mark, draw_marks
from utility.drawing.window import Window
from utility.run.log import log, progress

Item = TypeVar("Item")


@dataclass(frozen=True)
class Detector:
    """An Estimator with the checkpoint and the config of its variables."""

    estimator: tf.estimator.Estimator
    checkpoint: str
    config: Config

    def detect(self, images: Iterable[tuple[Item, np.ndarray]]) -> Iterator[tuple[Item, np.ndarray, Found]]:
        """Yield each item with its picture, RGB uint8 [h, w, 3], and the detections in it, in order.

        Pictures are taken as needed, a few ahead. An exception in `images` is raised after the detections before it.
        """
        waiting: deque[tuple[Item, np.ndarray]] = deque()  # as many as the input function reads ahead
        failed: list[Exception] = []

        def features() -> Iterator[tuple[str, np.ndarray]]:
            try:
                for item, image in images:
                    waiting.append((item, image))
                    yield "", image
            except Exception as error:  # TensorFlow would make another one of it
                failed.append(error)

        for found in predict_pictures(self.estimator, pictures_input_fn(features, self.config), self.checkpoint):
            yield *waiting.popleft(), found
        if failed:
            raise failed[0]

    def draw(self, image: np.ndarray, found: Found) -> Image.Image:
        """Return a picture with its detections drawn in."""
        rows = zip(_boxes_px(found), found["scores"], found["classes"].tolist(), strict=True)
        marks = [detection_mark(*row, self.config.class_names) for row in rows]
        return draw_marks(image, marks, self.config.pixel_extent)

    def entries(self, found: Found) -> list[dict[str, Any]]:
        """Return the detections in a picture for JSON, the highest score first.

        Each has `class`, its name; `score` in [0, 1] and `box` with xmin, ymin, xmax, ymax in pixels of the picture.
        """
        rows = zip(_boxes_px(found).tolist(), found["scores"].tolist(), found["classes"].tolist(), strict=True)
        entries = []
        for (ymin, xmin, ymax, xmax), score, class_id in rows:
            corners = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
            box = {name: round(value, 2) for name, value in corners.items()}
            entries.append({"class": self.config.class_names[class_id - 1], "score": round(score, 6), "box": box})
        return entries


def _boxes_px(found: Found) -> np.ndarray:
    return found["boxes_yxyx"] * np.tile(found["size"], 2)


def _with_first_computed(items: Iterator[Item]) -> Iterator[Item]:
    """Return the items after the first is computed: what was drawn before stays if the network cannot start."""
    return chain(list(islice(items, 1)), items)


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

    found_in = _with_first_computed(detector.detect(readable()))
    with (output / "detections.json").open("w", encoding="utf-8", newline="") as stream:
        stream.write("[")
        try:
            for number, (path, image, found) in enumerate(found_in):
                detector.draw(image, found).save(drawn_path(path, output), quality=92)
                (height, width), objects = map(int, found["size"]), detector.entries(found)
                entry = {"file": str(path), "width": width, "height": height, "objects": objects}
                stream.write(f"{',' if number else ''}\n{json.dumps(entry, ensure_ascii=False)}")
                best = ", ".join(f"{each['class']} {each['score']:.2f}" for each in objects[:5]) or "nothing found"
                log(f"{path}: {best}{f', and {len(objects) - 5} more' if len(objects) > 5 else ''}")
        finally:
            stream.write("\n]\n")
    log(f"drew {len(paths) - len(unreadable)} of {len(paths)} pictures to {output}")
    return len(unreadable)


def draw_video(detector: Detector, path: Path, output: Path) -> None:
    """Draw a video into a folder, and write its detections there, a line a frame; in memory of a few frames.

    A VideoError if the video breaks off; its frames before that are drawn.
    """
    drawn = drawn_path(path, output)
    lines_path = drawn.with_suffix(".jsonl")
    with Video(path) as source:
        found_in = _with_first_computed(detector.detect((frame, frame.image) for frame in source.frames()))
        count, start = 0, time.monotonic()
        try:
            with (
                video_writer(drawn, source) as write,
                lines_path.open("w", encoding="utf-8", newline="") as lines,
            ):
                for frame, image, found in progress(found_in, source.length, " frames"):
                    write(np.asarray(detector.draw(image, found)), frame.time)
                    seconds = round(float(frame.time), 6)
                    entry = {"frame": frame.number, "time": seconds, "objects": detector.entries(found)}
                    print(json.dumps(entry, ensure_ascii=False), file=lines, flush=True)
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
            frames = newest(camera.frames(), stop)
            for _, image, found in detector.detect((frame, frame.image) for frame in frames):
                if not window.show(detector.draw(image, found)):
                    break
        finally:
            stop.set()
