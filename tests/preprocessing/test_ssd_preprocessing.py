"""From encoded pictures to network inputs: golden numbers, a plain-numpy version, and pictures of every kind."""

import functools
import io
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from PIL import Image, ImageDraw

from dataset.sources import pictures
from preprocessing import colours, geometry
from preprocessing.ssd_preprocessing import (
    decode,
    preprocess_for_eval,
    preprocess_for_train,
    reduce,
)
from tests.builders.voc import picture
from utility.config.settings import NO_AUGMENTATION, AugmentConfig, NetworkConfig

INPUT = (300, 300)
MEANS_RGB = NetworkConfig().channel_means_rgb
AUGMENT = AugmentConfig()
GEOMETRY_ONLY = AugmentConfig(brightness=0.0, contrast=(1.0, 1.0), saturation=(1.0, 1.0), hue_degrees=0.0)
ALWAYS_ZOOMED = AugmentConfig(probability=1.0, min_ious=())
BOX = np.array([[0.2, 0.3, 0.7, 0.8]], np.float32)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 100, "subsampling": 0} | options if kind == "JPEG" else options))
    return buffer.getvalue()


@functools.cache
def augmenter(augment, image_size):
    """preprocess_for_train in a graph; gives a dict of the example and of what was drawn for it."""

    kinds = [tf2.TensorSpec([], tf.string), tf2.TensorSpec([None, 4], tf.float32), tf2.TensorSpec([], tf.int64)]

    @tf2.function(input_signature=kinds)
    def augmented(jpeg, boxes, seed):
        drawn: dict[str, Any] = {}

        def place(window, *rest):
            drawn.update(window=window, placement=real_place(window, *rest))
            return drawn["placement"]

        def draw_strengths(*arguments):
            drawn.update(strengths=real_draw_strengths(*arguments))
            return drawn["strengths"]

        real_place, real_draw_strengths = geometry.place, colours.draw_strengths
        seeds = tf.stack([tf.constant(7, tf.int64), seed])
        with (
            mock.patch.object(geometry, "place", place),
            mock.patch.object(colours, "draw_strengths", draw_strengths),
        ):
            example = preprocess_for_train(jpeg, boxes, seeds, image_size, MEANS_RGB, augment)
        return {**example._asdict(), **drawn}

    return augmented


def augment_all(cases, augment=AUGMENT, image_size=INPUT):
    """Augment (JPEG, boxes, seed) in turn."""
    for jpeg, boxes, seed in cases:
        result = augmenter(augment, image_size)(tf.constant(jpeg), tf.constant(boxes, tf.float32), seed)
        yield tf2.nest.map_structure(lambda tensor: tensor.numpy(), result)


def evaluate(image, image_size=INPUT):
    return preprocess_for_eval(image, image_size, MEANS_RGB).numpy()


def decoded(jpeg):
    return tf.io.decode_jpeg(jpeg, channels=3).numpy()


def plain_input(image, window, flip, image_size=INPUT):
    """The network input by definition: pad the image with the means, resample the exact window of it by TF1's
    bilinear rule (pixel j from j * old / new), flip, BGR, mean."""
    (top, rows), (left, columns) = (
        taps(*part) for part in zip(window[:2], window[2:], image.shape[:2], image_size, strict=True)
    )
    margins = [
        (max(0, -at.min()), max(0, at.max() + 2 - size)) for at, size in zip((top, left), image.shape, strict=False)
    ]
    canvas = np.pad(image - np.array(MEANS_RGB), [*margins, (0, 0)])
    top, left = top + margins[0][0], left + margins[1][0]
    rows, columns = rows[:, np.newaxis, np.newaxis], columns[np.newaxis, :, np.newaxis]
    upper = canvas[top][:, left] * (1 - columns) + canvas[top][:, left + 1] * columns
    lower = canvas[top + 1][:, left] * (1 - columns) + canvas[top + 1][:, left + 1] * columns
    result = upper * (1 - rows) + lower * rows
    return (result[:, ::-1] if flip else result)[..., ::-1]


def taps(low, high, old, new):
    """The first of the two pixels that each pixel of the input is interpolated from, and the weight of the second."""
    place = low * old + np.arange(new) * (high - low) * old / new
    first = np.floor(place).astype(int)
    return first, place - first


def placed_window(placement, size, image_size=INPUT):
    """The window [4] in [0, 1] of the image of a placement in whole pixels."""
    scale = placement.source_size / placement.target_size / size
    start = placement.source_start / size - placement.target_start * scale
    return np.concatenate([start, start + scale * image_size])


def target_box(placement, image_size=INPUT):
    """Where the image lies in the input, in [0, 1]; the rest is fill."""
    start, end = placement.target_start / image_size, (placement.target_start + placement.target_size) / image_size
    if placement.flip:
        start[1], end[1] = 1 - end[1], 1 - start[1]
    return np.concatenate([start, end])


def rounded_as_caffe(window, size):
    """Whole pixels as Caffe cuts them off."""
    return np.floor(window * np.tile(size, 2)) / np.tile(size, 2)


def textured(size, seed):
    """A picture with as much detail as a photograph: noise that falls with the frequency."""
    random = np.random.RandomState(seed)
    frequency = np.hypot(np.fft.fftfreq(size[1])[:, np.newaxis], np.fft.rfftfreq(size[0]))
    spectrum = np.fft.rfft2(random.randn(3, size[1], size[0])) / np.maximum(frequency, 1 / max(size)) ** 1.35
    noise = np.moveaxis(np.fft.irfft2(spectrum, s=size[::-1]), 0, 2)
    grey = noise.mean(axis=-1, keepdims=True)
    pixels = 128 + 22 * noise / noise.std() + 36 * grey / grey.std()
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photographs():
    """JPEGs of pictures that have as much detail as photographs."""
    sizes = [(500, 375), (375, 500), (500, 333), (333, 500)]
    return [encoded(textured(sizes[seed % 4], seed), quality=90, subsampling=2) for seed in range(20)]


def scene(size=(500, 375), seed=0):
    """A synthetic picture with soft shades and hard edges."""
    image = picture(size, seed)
    draw, random = ImageDraw.Draw(image), np.random.RandomState(seed)
    for _ in range(12):
        x, y = random.uniform(0, 0.9, 2) * size
        draw.ellipse([x, y, x + 60, y + 40], fill=tuple(random.randint(0, 256, 3).tolist()))
    return image


GOLDEN_SHAPES = [(48, 64, 3), (375, 500, 3)]


@pytest.mark.parametrize("number", range(2))
def test_evaluation_input_is_golden(golden, number):
    wanted = np.load(golden / "preprocess_eval.npz")[f"out{number}"]
    image = np.random.RandomState(4000 + number).randint(0, 256, GOLDEN_SHAPES[number]).astype(np.uint8)
    for same in (image, decode(encoded(Image.fromarray(image), "PNG"))):
        result = evaluate(same)
        assert result.shape == (300, 300, 3) and result.dtype == np.float32
        np.testing.assert_allclose(result[::7, ::7], wanted, atol=1e-3)


@pytest.mark.parametrize("image_size", [(300, 300), (160, 240), (512, 512)])
def test_evaluation_input_is_that_of_plain_numpy(photographs, image_size):
    for jpeg in photographs[:4]:
        image = decoded(jpeg)
        wanted = plain_input(image, np.array([0.0, 0, 1, 1]), False, image_size)
        # past the last pixel there is nothing to mix in
        np.testing.assert_allclose(evaluate(image, image_size)[:-4, :-4], wanted[:-4, :-4], atol=1e-2)


def test_without_augmentation_training_sees_what_evaluation_sees(photographs):
    for jpeg in photographs[:8]:
        (result,) = augment_all([(jpeg, BOX, 0)], NO_AUGMENTATION)
        np.testing.assert_array_equal(result["image"], evaluate(decode(jpeg)))
        np.testing.assert_allclose(result["boxes_yxyx"], BOX, atol=1e-6)
        assert result["kept"].tolist() == [True]


def compared(jpegs, augment=GEOMETRY_ONLY, image_size=INPUT, count=2):
    """Each JPEG augmented `count` times: the decoded image and what came of it."""
    images = [decoded(jpeg) for jpeg in jpegs]
    cases = [(jpeg, BOX, seed * len(jpegs) + number) for seed in range(count) for number, jpeg in enumerate(jpegs)]
    return zip(images * count, augment_all(cases, augment, image_size), strict=True)


@pytest.mark.parametrize("image_size", [(300, 300), (160, 240)])
def test_training_input_of_photographs_agrees_with_plain_numpy(photographs, image_size):
    for image, result in compared(photographs, image_size=image_size):
        placement = result["placement"]
        window = placed_window(placement, image.shape[:2], image_size)
        wanted = plain_input(image, window, placement.flip, image_size)
        assert np.abs(result["image"] - wanted).mean() < 0.5


def test_whole_pixels_are_nearer_to_the_exact_window_than_caffes(photographs):
    """Half a pixel makes a difference of several grey levels where there is much detail."""
    errors = []
    for image, result in compared(photographs):
        window, flip = result["window"].astype(np.float64), result["placement"].flip
        exact = plain_input(image, window, flip)
        caffe = plain_input(image, rounded_as_caffe(window, image.shape[:2]), flip)
        errors.append([np.abs(result["image"] - exact).mean(), np.abs(caffe - exact).mean()])
    ours, caffes = np.array(errors).T
    assert np.median(ours) < 2
    assert ours.mean() < 2.5 < caffes.mean()


def test_whole_pixels_are_as_good_as_the_exact_window_on_drawn_scenes():
    jpegs = [encoded(scene(size, seed)) for seed, size in enumerate([(500, 375), (333, 500), (640, 480), (1000, 900)])]
    errors = []
    for image, result in compared(jpegs, count=8):
        exact = plain_input(image, result["window"].astype(np.float64), result["placement"].flip)
        errors.append(np.abs(result["image"] - exact).mean())
    assert np.max(errors) < 2


def test_colours_of_the_input_are_those_of_a_coloured_image(photographs):
    """Caffe distorts the whole image, then resamples."""
    errors = []
    for image, result in compared(photographs[:10], AUGMENT):
        placement, strengths = result["placement"], result["strengths"]
        with mock.patch.object(colours, "draw_strengths", return_value=[tf.constant(part) for part in strengths]):
            coloured = colours.distort(tf.constant(image, tf.float32), tf.zeros([colours.DRAWS]), AUGMENT).numpy()
        wanted = plain_input(coloured, placed_window(placement, image.shape[:2]), placement.flip)
        errors.append(np.abs(result["image"] - wanted).mean())
    assert np.max(errors) < 2


def marked(size, box_px):
    """A picture (height, width) of soft greys with one green rectangle (ymin, xmin, ymax, xmax in pixels)."""
    image = picture(size[::-1]).convert("L").point(lambda grey: 90 + grey // 5).convert("RGB")
    top, left, bottom, right = box_px
    ImageDraw.Draw(image).rectangle([left, top, right - 1, bottom - 1], fill=(0, 255, 0))
    return encoded(image)


def green_box(image):
    """The box [4] in pixels around what is green in an input."""
    rgb = image[..., ::-1] + MEANS_RGB
    # grey has 0 here, green 255
    rows, columns = np.nonzero(rgb[..., 1] - np.maximum(rgb[..., 0], rgb[..., 2]) > 127)
    return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


@pytest.mark.parametrize("size", [(900, 1000), (90, 100)])
def test_a_mark_lies_where_its_box_says(size):
    random, cases = np.random.RandomState(0), []
    for seed in range(100):
        extent = random.randint(0.2 * size[0], 0.5 * size[0], 2)
        start = random.randint([0, 0], size - extent + 1)
        box = np.concatenate([start, start + extent])
        cases.append((marked(size, box.tolist()), [(box / np.tile(size, 2)).tolist()], seed))
    seen = {"flipped": 0, "zoomed out": 0, "cropped": 0, "cut": 0}
    for result in augment_all(cases, GEOMETRY_ONLY):
        if not result["kept"].any():
            continue
        box, placement = result["boxes_yxyx"][0] * 300, result["placement"]
        # TF1's rule shows each pixel of the image half a pixel, in its own size, up and to the left
        pixel = placement.target_size / placement.source_size
        own = np.tile(np.maximum(0, pixel - 1) / 2, 2)
        assert (np.abs(green_box(result["image"]) - box) <= 1 + own).all()
        seen["flipped"] += placement.flip
        seen["zoomed out"] += (placement.target_size < 250).all()
        seen["cropped"] += (placement.source_size < np.array(size) * 0.8).all()
        seen["cut"] += box.min() == 0 or box.max() == 300
    assert min(seen.values()) >= 8


def test_the_padding_is_exactly_0_and_nothing_else_is():
    jpeg = encoded(scene())
    for result in augment_all([(jpeg, BOX, seed) for seed in range(30)], ALWAYS_ZOOMED):
        top, left, bottom, right = (target_box(result["placement"]) * 300).round().astype(int)
        shown = np.zeros(INPUT, bool)
        shown[top:bottom, left:right] = True
        assert (result["image"][~shown] == 0).all()
        assert (result["image"][shown] != 0).any(axis=-1).mean() > 0.99


def test_half_of_the_inputs_are_zoomed_out_and_half_are_flipped():
    left_half_white = Image.new("L", (64, 64), 0)
    left_half_white.paste(255, (0, 0, 32, 64))
    jpeg, none = encoded(left_half_white), np.zeros((0, 4), np.float32)
    augment = AugmentConfig(min_ious=())
    results = list(augment_all([(jpeg, none, seed) for seed in range(400)], augment, (32, 32)))
    zoomed = np.array([(result["image"] == 0).all(axis=-1).any() for result in results])
    assert zoomed.mean() == pytest.approx(0.5, abs=0.07)
    white = np.array([result["image"].mean(axis=(0, 2)) for result in results])
    flipped = (white * np.linspace(-1, 1, 32)).sum(axis=1) > 0
    assert flipped[~zoomed].mean() == pytest.approx(0.5, abs=0.08)
    assert np.mean([result["placement"].flip for result in results]) == pytest.approx(0.5, abs=0.07)


def test_the_colour_of_a_plain_picture_is_distorted_as_drawn():
    """One colour in, one colour out; in a sixteenth of the inputs the same one."""
    colour, untouched, count = np.array([200.0, 120.0, 60.0]), 0, 400
    jpeg = encoded(Image.new("RGB", (16, 16), (200, 120, 60)))
    for result in augment_all([(jpeg, BOX, seed) for seed in range(count)], AugmentConfig(min_ious=()), (20, 20)):
        brightness, contrast, saturation, hue, _ = result["strengths"]
        pixels = result["image"][(result["image"] != 0).any(axis=-1)][:, ::-1] + MEANS_RGB
        assert np.ptp(pixels, axis=0).max() < 1e-3
        untouched += np.abs(pixels[0] - colour).max() < 3
        if saturation == 1 and hue == 0:
            wanted = ((colour + brightness).clip(0, 255) * contrast).clip(0, 255)
            np.testing.assert_allclose(pixels[0], wanted, atol=3.5)
    assert untouched / count == pytest.approx(1 / 16, abs=0.04)


SIZES = [(1, 1), (1, 300), (3, 200), (200, 3), (17, 31), (31, 31), (40, 6000), (6000, 40), (3, 6000), (1, 6000)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_pictures_of_every_size_work(size):
    colour = (200, 120, 60)
    jpeg = encoded(Image.new("RGB", size[::-1], colour))
    wanted = (np.array(colour) - MEANS_RGB)[::-1]
    whole = evaluate(decode(jpeg))
    np.testing.assert_allclose(whole, np.broadcast_to(wanted, (300, 300, 3)), atol=2.5)
    for result in augment_all([(jpeg, BOX, seed) for seed in range(30)], GEOMETRY_ONLY):
        shown = (result["image"] != 0).any(axis=-1)
        assert shown.sum() == result["placement"].target_size.prod()
        np.testing.assert_allclose(result["image"][shown], np.broadcast_to(wanted, (shown.sum(), 3)), atol=2.5)
    for result in augment_all([(jpeg, BOX, seed) for seed in range(10)], AUGMENT):
        assert np.isfinite(result["image"]).all() and np.isfinite(result["boxes_yxyx"]).all()


KINDS = {
    "grey": encoded(scene().convert("L")),
    "progressive": encoded(scene(), progressive=True),
    "subsampled": encoded(scene(), subsampling=2),
    "CMYK": encoded(scene().convert("CMYK")),
    "PNG": encoded(scene(), "PNG"),
    "PNG with transparency": encoded(scene().convert("RGBA"), "PNG"),
    "grey PNG": encoded(scene().convert("L"), "PNG"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind_work_as_the_converter_stores_them(tmp_path, kind):
    (tmp_path / "picture").write_bytes(KINDS[kind])
    stored = pictures.read_picture(tmp_path / "picture", (375, 500)).encoded
    image = np.asarray(scene().convert("L").convert("RGB") if "grey" in kind else scene())
    assert np.abs(evaluate(decode(stored)) - evaluate(image)).mean() < 2
    for result in augment_all([(stored, BOX, seed) for seed in range(8)], GEOMETRY_ONLY):
        wanted = plain_input(image, placed_window(result["placement"], (375, 500)), result["placement"].flip)
        assert np.abs(result["image"] - wanted).mean() < 2


def test_a_cmyk_jpeg_in_records_of_others_works():
    jpeg = KINDS["CMYK"]
    assert np.abs(evaluate(decode(jpeg)) - evaluate(np.asarray(scene()))).mean() < 3
    for result in augment_all([(jpeg, BOX, seed) for seed in range(8)], GEOMETRY_ONLY):
        placement = result["placement"]
        wanted = plain_input(np.asarray(scene()), placed_window(placement, (375, 500)), placement.flip)
        assert np.abs(result["image"] - wanted).mean() < 3


USELESS = {
    "none": np.zeros((0, 4)),
    "zero area": [[0.5, 0.5, 0.5, 0.9], [0.2, 0.2, 0.2, 0.2]],
    "inverted": [[0.9, 0.9, 0.1, 0.1], [0.2, 0.8, 0.6, 0.3]],
    "outside": [[1.2, 1.2, 1.5, 1.5], [-0.6, 0.2, -0.1, 0.7], [-3, -3, -1, -1], [0.2, 1.0, 0.6, 1.4]],
}


@pytest.mark.parametrize("boxes", USELESS.values(), ids=USELESS)
@pytest.mark.parametrize("with_object", [False, True], ids=["alone", "beside an object"])
def test_degenerate_boxes_never_become_objects(boxes, with_object):
    boxes = np.append(np.reshape(boxes, (-1, 4)), BOX[: int(with_object)], axis=0).astype(np.float32)
    jpeg, found = encoded(scene((100, 75))), 0
    for result in augment_all([(jpeg, boxes, seed) for seed in range(60)]):
        moved, kept = result["boxes_yxyx"], result["kept"]
        assert np.isfinite(result["image"]).all() and np.isfinite(moved).all()
        lowest = -np.array(MEANS_RGB)[::-1]
        assert (result["image"] >= lowest - 1e-3).all() and (result["image"] <= lowest + 255 + 1e-3).all()
        assert kept.shape == (len(boxes),) and len(moved) == kept.sum()
        objects = np.flatnonzero(kept)[((moved[:, 2:] - moved[:, :2]) > 0).all(axis=1)]
        assert all(with_object and index == len(boxes) - 1 for index in objects)
        found += len(objects)
    assert (found > 20) == with_object


def test_no_object_extends_into_the_padding():
    """Boxes partly outside the image are clipped to it."""
    boxes = np.array([[-0.3, 0.2, 0.5, 0.8], [0.4, 0.4, 1.5, 1.6], [-1, -1, 2, 2], [0, 0, 1, 1]], np.float32)
    jpeg = encoded(scene((100, 75)))
    for result in augment_all([(jpeg, boxes, seed) for seed in range(60)]):
        shown = target_box(result["placement"])
        assert (result["boxes_yxyx"][:, :2] >= shown[:2] - 1e-5).all()
        assert (result["boxes_yxyx"][:, 2:] <= shown[2:] + 1e-5).all()


def test_a_seed_gives_the_same_example_again_and_another_seed_another_one():
    jpeg = encoded(scene((100, 75)))
    first, again, other = augment_all([(jpeg, BOX, seed) for seed in (5, 5, 6)])
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["boxes_yxyx"], again["boxes_yxyx"])
    assert np.abs(first["image"] - other["image"]).mean() > 1


# --- reduction -------------------------------------------------------------------------------------------------------


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
