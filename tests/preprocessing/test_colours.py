"""Photometric distortion against colorsys, TensorFlow's own kernels and Caffe's distortions in plain numpy."""

import colorsys
import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing import colours
from utility.config.settings import NO_AUGMENTATION, AugmentConfig

AUGMENT = AugmentConfig()
SPECIAL = [
    [0, 0, 0], [255, 255, 255], [127, 127, 127], [1, 1, 1],
    [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255], [255, 0, 255],
    [255, 254, 254], [0, 0, 1], [200, 200, 10], [10, 200, 200], [200, 10, 200],
]  # fmt: skip
CHANNEL = st.one_of(
    st.sampled_from([0.0, 255.0]),
    st.integers(0, 255).map(float),
    st.floats(0, 255, width=32, allow_subnormal=False),
)


def change(pixels, saturation, hue):
    image = np.array(pixels, np.float32).reshape(1, -1, 3)
    return colours.adjust_saturation_and_hue(tf.constant(image), tf.constant(saturation), tf.constant(hue)).numpy()[0]


def plain_change(pixel, saturation, hue):
    """One RGB pixel by Python's colorsys; hue in units of 60 degrees."""
    h, s, v = colorsys.rgb_to_hsv(*(float(channel) / 255 for channel in pixel))
    return np.array(colorsys.hsv_to_rgb((h + hue / 6) % 1, min(s * saturation, 1), v)) * 255


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(CHANNEL, CHANNEL, CHANNEL), min_size=1, max_size=20),
    st.integers(500, 1500).map(lambda part: part / 1000),
    st.integers(-600, 600).map(lambda part: part / 1000),
)
def test_pixels_change_as_in_colorsys(pixels, saturation, hue):
    pixels = [*pixels, *SPECIAL]
    wanted = [plain_change(pixel, saturation, hue) for pixel in pixels]
    np.testing.assert_allclose(change(pixels, saturation, hue), wanted, atol=0.01)


@pytest.mark.parametrize("hue", [-0.6, -0.37, 0.0, 0.2, 0.6])
@pytest.mark.parametrize("saturation", [0.5, 0.9, 1.0, 1.5])
def test_images_change_as_by_tensorflows_kernels(saturation, hue):
    image = np.random.RandomState(0).uniform(0, 255, (40, 50, 3)).astype(np.float32)
    image[0, : len(SPECIAL)] = SPECIAL
    parts = tf.image.adjust_hue(tf.image.adjust_saturation(tf.constant(image / 255), saturation), hue / 6)
    changed = colours.adjust_saturation_and_hue(tf.constant(image), tf.constant(saturation), tf.constant(hue))
    assert changed.shape == image.shape
    np.testing.assert_allclose(changed, parts * 255, atol=0.02)


@pytest.mark.parametrize("pixel", [[0, 0, 0], [255, 255, 255], [127, 127, 127], [3.5, 3.5, 3.5]])
def test_grey_stays_exactly_as_it_is(pixel):
    np.testing.assert_array_equal(change([pixel], 1.5, 0.6), [pixel])
    np.testing.assert_array_equal(change([pixel], 0.5, -0.6), [pixel])


def test_the_saturation_is_at_most_1():
    np.testing.assert_allclose(change([[200, 0, 0]], 1.5, 0.0), [[200, 0, 0]], atol=1e-3)
    np.testing.assert_allclose(change([[200, 0, 0]], 0.5, 0.0), [[200, 100, 100]], atol=1e-3)


@pytest.fixture(scope="module")
def strengths():
    """Brightness, contrast, saturation, hue and whether contrast comes first, [6000] each."""
    uniform = tf.random.stateless_uniform([colours.DRAWS, 6000], [1, 2])
    return [np.array(drawn) for drawn in colours.draw_strengths(uniform, AUGMENT)]


@pytest.mark.parametrize(
    ("which", "low", "high", "neutral"),
    [(0, -32, 32, 0), (1, 0.5, 1.5, 1), (2, 0.5, 1.5, 1), (3, -36 / 60, 36 / 60, 0)],
    ids=["brightness", "contrast", "saturation", "hue"],
)
def test_each_distortion_is_applied_half_of_the_time_and_uniform_in_its_range(strengths, which, low, high, neutral):
    drawn = strengths[which]
    on = drawn != neutral
    assert on.mean() == pytest.approx(0.5, abs=0.03)
    # uniform: the n-th smallest lies n parts of the way
    np.testing.assert_allclose(np.sort(drawn[on]), np.linspace(low, high, on.sum()), atol=(high - low) * 0.04)
    assert low <= drawn.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < drawn.max() <= high


def test_contrast_comes_first_half_of_the_time_and_strengths_are_independent(strengths):
    brightness, contrast, saturation, hue, first = strengths
    assert first.mean() == pytest.approx(0.5, abs=0.03)
    switches = [brightness != 0, contrast != 1, saturation != 1, hue != 0, first]
    for values in ([brightness, contrast, saturation, hue, first], switches):
        assert np.abs(np.corrcoef(np.array(values, float)) - np.eye(5)).max() < 0.05


def test_probability_0_applies_no_distortion_and_1_all():
    uniform = tf.random.stateless_uniform([colours.DRAWS, 500], [3, 4])
    for value, neutral in zip(colours.draw_strengths(uniform, NO_AUGMENTATION), (0, 1, 1, 0), strict=False):
        assert (value.numpy() == neutral).all()
    always = dataclasses.replace(AUGMENT, probability=1.0)
    for value, neutral in zip(colours.draw_strengths(uniform, always), (0, 1, 1, 0), strict=False):
        assert (value.numpy() != neutral).all()


def plain_distort(pixel, brightness, contrast, saturation, hue, contrast_first):
    """Caffe's ApplyDistort on one pixel, in floats: grey levels saturate after each step."""
    pixel = (np.array(pixel, np.float64) + brightness).clip(0, 255)
    if contrast_first:
        return plain_change((pixel * contrast).clip(0, 255), saturation, hue)
    return (plain_change(pixel, saturation, hue) * contrast).clip(0, 255)


def test_the_distortions_are_those_of_caffe():
    image = np.random.RandomState(0).uniform(0, 255, (5, 8, 3)).astype(np.float32)
    image[0] = SPECIAL[:8]
    seen = set()
    for seed in range(60):
        uniform = tf.random.stateless_uniform([colours.DRAWS], [seed, 0])
        drawn = [float(value) for value in colours.draw_strengths(uniform, AUGMENT)]
        seen.add((*(value != neutral for value, neutral in zip(drawn, (0, 1, 1, 0), strict=False)), drawn[4]))
        wanted = [plain_distort(pixel, *drawn) for pixel in image.reshape(-1, 3)]
        got = colours.distort(tf.constant(image), uniform, AUGMENT).numpy()
        np.testing.assert_allclose(got.reshape(-1, 3), wanted, atol=0.02)
        assert got.min() >= 0 and got.max() <= 255
    assert len(seen) > 20  # of 32 ways to combine them


def test_without_distortion_pixels_stay_exactly_as_they_are():
    image = np.random.RandomState(0).uniform(0, 255, (5, 8, 3)).astype(np.float32)
    uniform = tf.random.stateless_uniform([colours.DRAWS], [1, 0])
    np.testing.assert_array_equal(colours.distort(tf.constant(image), uniform, NO_AUGMENTATION), image)
