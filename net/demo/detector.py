"""A trained network that detects in pictures as they come, and draws what it finds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.input.evaluation import pictures_input_fn
from dataset.scores import found_objects
from net.estimator.prediction import detect
from utility.config.settings import Config
from utility.drawing.detections import draw_detections

Item = TypeVar("Item")
Found = dict[str, np.ndarray]  # the detections in a picture, as `detect` yields them


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

        for found in detect(self.estimator, pictures_input_fn(images, self.config), self.checkpoint):
            yield *waiting.popleft(), found
        if failed:
            raise failed[0]

    def draw(self, image: np.ndarray, found: Found) -> Image.Image:
        """Return a picture with its detections drawn in."""
        boxes = found_objects.boxes_px(found)
        return draw_detections(image, boxes, found["scores"], found["classes"], self.config.class_names)

    def objects(self, found: Found) -> list[dict[str, Any]]:
        """Return the detections in a picture as entries of JSON."""
        return found_objects.objects(found, self.config.class_names)
