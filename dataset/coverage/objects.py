"""The objects of a data set that a network is to find, as the pictures show them and as the augmentation does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from preprocessing import geometry
from utility.config.settings import Config

Example = Mapping[str, Any]


class Objects(NamedTuple):
    """N objects with an area, in I images; those marked difficult are left out unless the config learns from them."""

    boxes_yxyx: np.ndarray  # float32 [N, 4] in [0, 1] of the image, clipped to it
    labels: np.ndarray  # int64 [N], class ids
    images: np.ndarray  # int64 [N], the number of each one's image, from 0
    sizes: np.ndarray  # int32 [I, 2], height and width of the images in pixels

    def sample(self, objects: int, images: int, seed: int = 0) -> Objects:
        """Return the objects of images drawn at random: of so many images at most, and of one more than hold so many.

        The images keep their numbers.
        """
        order = np.random.RandomState(seed).permutation(len(self.sizes))[:images]
        counts = np.bincount(self.images, minlength=len(self.sizes))[order]
        chosen = np.isin(self.images, order[: np.searchsorted(np.cumsum(counts), objects) + 1])
        return Objects(self.boxes_yxyx[chosen], self.labels[chosen], self.images[chosen], self.sizes)


def objects_of(examples: Sequence[Example], use_difficult: bool) -> Objects:
    """Return the objects of examples, numpy values of what `parsing.parse` returns; the pictures are not needed."""
    counts = [len(example["labels"]) for example in examples]
    boxes = _joined(examples, "boxes_yxyx", np.zeros((0, 4), np.float32)).clip(0.0, 1.0)
    difficult = _joined(examples, "difficult", np.zeros(0, bool))
    counted = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (use_difficult | ~difficult)
    labels, images = _joined(examples, "labels", np.zeros(0, np.int64)), np.repeat(np.arange(len(examples)), counts)
    sizes = np.array([(example["height"], example["width"]) for example in examples], np.int32).reshape(-1, 2)
    return Objects(boxes[counted], labels[counted], images[counted], sizes)


def _joined(examples: Sequence[Example], key: str, none: np.ndarray) -> np.ndarray:
    return np.concatenate([none, *(example[key] for example in examples)])


def augmented(objects: Objects, config: Config) -> np.ndarray:
    """Return the boxes of objects as one epoch of training shows them, float32 [M, 4] in [0, 1], all with an area.

    The config is that of the network's input and of the augmentation.
    """
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
        boxes, size, number = (tf.placeholder(*of) for of in ((tf.float32, [None, 4]), (tf.int32, [2]), (tf.int32, [])))
        uniform = tf.random.stateless_uniform([geometry.number_of_draws(config.augment)], tf.stack([0, number]))
        placement = geometry.draw_placement(boxes, size, config.network.image_size, uniform, config.augment)
        moved, _ = geometry.move_boxes(boxes, placement, size, config.network.image_size)
        parts = [np.zeros((0, 4), np.float32)]
        for image in np.unique(objects.images):
            own = objects.boxes_yxyx[objects.images == image]
            parts.append(session.run(moved, {boxes: own, size: objects.sizes[image], number: image}))
    found = np.concatenate(parts)
    return found[(found[:, 2:] > found[:, :2]).all(axis=1)]
