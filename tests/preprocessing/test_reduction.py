"""Reduction in the graph: as Pillow's, by which the converter reduces."""

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from PIL import Image

from preprocessing.ssd_preprocessing import reduce
from tests.builders.voc import picture


def reduced(image, max_side):
    function = tf2.function(lambda image: reduce(image, max_side))
    return function(tf.constant(image)).numpy()


@pytest.mark.parametrize("size", [(1000, 747), (333, 1201), (129, 128), (2, 700)])
def test_it_is_pillows_reduction(size):
    original = picture(size)
    width, height = (max(1, (2 * side * 128 + max(size)) // (2 * max(size))) for side in size)
    wanted = np.asarray(original.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    found = reduced(np.asarray(original), 128)
    assert found.shape == wanted.shape and found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1.01  # Pillow rounds twice


def test_every_pixel_counts():
    """A checkerboard of single pixels becomes grey; bilinear sampling at a ratio of 8 would see one colour alone."""
    board = np.indices((512, 512)).sum(axis=0) % 2 * 255
    found = reduced(np.repeat(board[..., np.newaxis], 3, axis=2).astype(np.uint8), 64)
    np.testing.assert_allclose(found, 127.5, atol=0.5)


def test_a_picture_that_is_not_larger_stays():
    original = np.asarray(picture((128, 100)))
    np.testing.assert_array_equal(reduced(original, 128), original.astype(np.float32))
    assert reduce(tf.constant(original), None).dtype == tf.uint8
