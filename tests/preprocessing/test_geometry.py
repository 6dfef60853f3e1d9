"""Distribution of the windows against Caffe's sampling, and boxes against plain numpy."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing import geometry
from preprocessing.geometry import Placement
from utility.config.settings import NO_AUGMENTATION, AugmentConfig

AUGMENT = AugmentConfig()
ALWAYS = dataclasses.replace(AUGMENT, probability=1.0)
NEVER = dataclasses.replace(AUGMENT, probability=0.0)
ONLY_ZOOM = dataclasses.replace(AUGMENT, min_ious=())
# so large that windows in whole pixels are exact to 1e-5
LARGE = (100_000, 120_000)
LARGEST_UNIFORM = 1 - 2**-23  # of float32 in [0, 1)
OBJECTS = np.array([[0.1, 0.2, 0.5, 0.6], [0.55, 0.5, 0.95, 0.9], [0.3, 0.3, 0.4, 0.36]], np.float32)
WHOLE_IMAGE_OBJECT = np.array([[0, 0, 1, 1]], np.float32)


def mapped(function, values):
    """Run a function on each of the values [count, ...] in a graph; returns structures of arrays [count, ...]."""
    dataset = tf.data.Dataset.from_tensor_slices(values).map(function).batch(len(values))
    return next(iter(dataset.as_numpy_iterator()))


def placements(count, augment, boxes=OBJECTS, size=LARGE, image_size=LARGE):
    uniform = tf.random.stateless_uniform([count, geometry.number_of_draws(augment)], [count, 20180503])
    boxes, size = tf.constant(boxes, tf.float32), tf.constant(size)
    return mapped(lambda draws: geometry.draw_placement(boxes, size, image_size, draws, augment), uniform)


def windows_of(placed, size=LARGE, image_size=LARGE):
    """The windows of placements, float64 [count, 4] in [0, 1] of the image."""
    scale = placed.source_size / placed.target_size / size
    start = placed.source_start / size - placed.target_start * scale
    return np.concatenate([start, start + scale * image_size], axis=1)


def plain_iou(windows, boxes):
    """IoU of each pair, float64 [count, N]."""
    windows, boxes = np.asarray(windows, np.float64)[:, np.newaxis], np.asarray(boxes, np.float64)
    shared = np.minimum(windows[..., 2:], boxes[:, 2:]) - np.maximum(windows[..., :2], boxes[:, :2])
    shared = shared.clip(0).prod(axis=-1)
    areas = (windows[..., 2:] - windows[..., :2]).clip(0).prod(-1) + (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(-1)
    return shared / np.maximum(areas - shared, 1e-12)


def distance(sample, other):
    """Kolmogorov and Smirnov's distance between two samples; 0.07 is one in a million for 3000 each."""
    points = np.sort(np.concatenate([sample, other]))
    below = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (sample, other)]
    return np.abs(below[0] - below[1]).max()


def distance_from_uniform(sample, low, high):
    return distance(sample, np.linspace(low, high, 20_001))


@pytest.fixture(scope="module")
def zoom_outs():
    return placements(4000, ONLY_ZOOM)


@pytest.fixture(scope="module")
def canvases(zoom_outs):
    return windows_of(zoom_outs)


def test_half_of_the_images_are_zoomed_out(canvases):
    zoomed = canvases[:, 2] - canvases[:, 0] > 1.00001
    assert zoomed.mean() == pytest.approx(0.5, abs=0.03)
    np.testing.assert_array_equal(canvases[~zoomed], np.tile([0, 0, 1, 1], (np.sum(~zoomed), 1)))


def test_the_zoom_is_uniform_from_1_to_4_and_the_same_on_both_axes(canvases):
    sides = canvases[:, 2:] - canvases[:, :2]
    sides = sides[sides[:, 0] > 1.00001]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], rtol=1e-3)
    assert distance_from_uniform(sides[:, 0], 1, 4) < 0.05
    assert 3.95 < sides.max() < 4.001


def test_the_image_lies_anywhere_on_the_canvas(canvases):
    sides = canvases[:, 2] - canvases[:, 0]
    zoomed = sides > 1.01
    parts = -canvases[zoomed, :2] / (sides[zoomed] - 1)[:, np.newaxis]
    assert parts.min() > -0.01 and parts.max() < 1.01
    for axis in range(2):
        assert distance_from_uniform(parts[:, axis], 0, 1) < 0.05
    together = np.stack([parts[:, 0], parts[:, 1], sides[zoomed]])
    assert np.abs(np.corrcoef(together) - np.eye(3)).max() < 0.08


def plain_crops(random, count):
    """Caffe's SampleBBox: crops ymin, xmin, ymax, xmax [count, 4] in [0, 1] of the canvas."""
    scale = random.uniform(*AUGMENT.crop_scale, count)
    low, high = np.maximum(AUGMENT.crop_ratio[0], scale**2), np.minimum(AUGMENT.crop_ratio[1], 1 / scale**2)
    ratio = random.uniform(low, high)
    width, height = scale * np.sqrt(ratio), scale / np.sqrt(ratio)
    left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    return np.stack([top, left, top + height, left + width], axis=1)


@pytest.fixture(scope="module")
def crops():
    uniform = tf.random.stateless_uniform([20_000, 4], [1, 2])
    return geometry.draw_crops(uniform, AUGMENT).numpy().astype(np.float64)


def test_scale_and_ratio_of_crops_are_uniform_where_they_fit(crops):
    height, width = (crops[:, 2:] - crops[:, :2]).T
    scale, ratio = np.sqrt(height * width), width / height
    assert distance_from_uniform(scale, 0.3, 1) < 0.02
    low, high = np.maximum(0.5, scale**2), np.minimum(2, scale**-2)
    assert distance_from_uniform((ratio - low) / (high - low), 0, 1) < 0.03
    assert scale.min() + 1e-6 >= 0.3 and scale.max() <= 1 + 1e-6
    assert ratio.min() + 1e-5 >= 0.5 and ratio.max() <= 2 + 1e-5


def test_crops_lie_anywhere_on_the_canvas(crops):
    extent = crops[:, 2:] - crops[:, :2]
    assert crops.min() >= 0 and crops.max() <= 1 + 1e-6
    for axis in range(2):
        roomy = extent[:, axis] < 0.99
        place = crops[roomy, axis] / (1 - extent[roomy, axis])
        assert distance_from_uniform(place, 0, 1) < 0.02


def test_crops_are_distributed_as_those_of_caffe(crops):
    plain = plain_crops(np.random.RandomState(0), 20_000)
    for side in range(4):
        assert distance(crops[:, side], plain[:, side]) < 0.03
    assert distance((crops[:, 2:] - crops[:, :2]).prod(1), (plain[:, 2:] - plain[:, :2]).prod(1)) < 0.03


@given(st.tuples(*[st.sampled_from([0.0, 0.5, LARGEST_UNIFORM])] * 4))
def test_the_extremes_of_the_draws_stay_on_the_canvas(uniform):
    crop = geometry.draw_crops(tf.constant(uniform), AUGMENT).numpy()
    assert (crop >= 0).all() and (crop <= 1 + 1e-6).all() and (crop[2:] > crop[:2]).all()
    canvas = geometry.draw_canvas(tf.constant(uniform), ALWAYS).numpy()
    assert (canvas[:2] <= 0).all() and (canvas[2:] >= 1 - 1e-6).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 5))
def test_a_sampler_accepts_what_overlaps_any_object_enough(seed, objects):
    random = np.random.RandomState(seed)
    crops = plain_crops(random, 6 * 50).astype(np.float32).reshape(6, 50, 4)
    boxes = plain_crops(random, objects).astype(np.float32)
    got = geometry.accepted_crops(tf.constant(crops), tf.constant(boxes), tf.constant([375, 500]), AUGMENT).numpy()
    best = plain_iou(crops.reshape(-1, 4), boxes).max(axis=1, initial=0).reshape(6, 50)
    wanted = best >= np.array(AUGMENT.min_ious)[:, np.newaxis]
    clear = np.abs(best - np.array(AUGMENT.min_ious)[:, np.newaxis]) > 1e-5
    np.testing.assert_array_equal(got[clear], wanted[clear])
    assert got[0].all()


@pytest.mark.parametrize(
    ("crop", "rejected"),
    [
        ((-2, -2, -0.1, -0.1), True),
        ((-1, -1, 0.9 / 375, 1), True),
        ((-1, -1, 1.1 / 375, 1), False),
        ((0.5, 1 - 0.9 / 500, 1.5, 2), True),
    ],
)
def test_a_crop_with_less_than_a_pixel_of_the_image_is_rejected(crop, rejected):
    # an object that fills the crop, so that its IoU is high enough for every sampler
    crops = tf.constant(np.tile(np.array(crop, np.float32), (6, 50, 1)))
    got = geometry.accepted_crops(crops, crops[0, :1], tf.constant([375, 500]), AUGMENT).numpy()
    assert (got == (not rejected)).all()


@pytest.mark.parametrize("augment", [NEVER, ALWAYS], ids=["as it is", "zoomed out"])
@pytest.mark.parametrize("min_iou", AUGMENT.min_ious[1:])
def test_every_crop_that_is_chosen_overlaps_an_object_enough(augment, min_iou):
    boxes = np.append(OBJECTS, [[0.05, 0.02, 0.97, 0.96]], axis=0)
    windows = windows_of(placements(300, dataclasses.replace(augment, min_ious=(min_iou,)), boxes))
    # the canvas itself, the only other choice, shows all of the image
    whole = (windows[:, :2] <= 1e-4).all(axis=1) & (windows[:, 2:] >= 1 - 1e-4).all(axis=1)
    assert whole.mean() > 0.4 and np.sum(~whole) > 2
    assert (plain_iou(windows[~whole], boxes).max(axis=1) >= min_iou - 1e-4).all()


def choices(accepted, draws=1000):
    """How often the whole canvas and each sampler's crops are chosen; crop t of sampler s is [s, t, 0, 0]."""
    samplers, trials = accepted.shape
    numbers = np.stack(np.meshgrid(range(samplers), range(trials), indexing="ij"), axis=-1)
    crops = tf.constant(np.pad(numbers, [(0, 0), (0, 0), (0, 2)]), tf.float32)
    canvas = tf.constant([-1.0, -1.0, 0.0, 0.0])

    uniform = np.append(np.linspace(0, 1, draws, endpoint=False)[1:], LARGEST_UNIFORM).astype(np.float32)
    chosen = mapped(lambda draw: geometry.choose_window(canvas, crops, tf.constant(accepted), draw), uniform)
    windows, counts = np.unique(chosen[:, :2], axis=0, return_counts=True)
    return {(int(s), int(t)): count / draws for (s, t), count in zip(windows, counts, strict=True)}


def test_the_canvas_and_each_first_accepted_crop_have_the_same_share():
    accepted = np.zeros((6, 50), bool)
    accepted[0, :], accepted[2, 7:], accepted[4, [3, 40]], accepted[5, 49] = True, True, True, True
    shares = choices(accepted)
    assert set(shares) == {(-1, -1), (0, 0), (2, 7), (4, 3), (5, 49)}
    np.testing.assert_allclose([*shares.values()], 0.2, atol=0.002)


def test_without_an_accepted_crop_the_canvas_is_chosen():
    assert choices(np.zeros((6, 50), bool)) == {(-1, -1): 1.0}


def test_the_canvas_and_all_six_samplers_have_the_same_share():
    shares = choices(np.ones((6, 50), bool))
    assert len(shares) == 7
    np.testing.assert_allclose([*shares.values()], 1 / 7, atol=0.002)


def plain_window(random, boxes, zoom):
    """Caffe's ExpandImage and GenerateBatchSamples, in order: a window [4] in [0, 1] of the image."""
    canvas = np.array([0.0, 0, 1, 1])
    if zoom and random.uniform() < 0.5:
        side = random.uniform(1, 4)
        start = -random.uniform(0, side - 1, 2)
        canvas = np.concatenate([start, start + side])
    start, extent = canvas[:2], canvas[2:] - canvas[:2]
    crops = plain_crops(random, 6 * 50) * np.tile(extent, 2) + np.tile(start, 2)
    best = plain_iou(crops, boxes).max(axis=1, initial=0)
    found = [canvas]
    for sampler, min_iou in enumerate(AUGMENT.min_ious):
        mine = slice(sampler * 50, sampler * 50 + 50)
        found += [*crops[mine][best[mine] >= min_iou]][:1]
    return found[random.randint(len(found))]


@pytest.mark.parametrize(
    ("boxes", "augment"),
    [(OBJECTS, AUGMENT), (OBJECTS, NEVER), (WHOLE_IMAGE_OBJECT, AUGMENT), (OBJECTS[:0], AUGMENT)],
    ids=["zoomed out", "as it is", "one large object", "no object"],
)
def test_windows_are_distributed_as_those_of_caffe(boxes, augment):
    count, random = 1000, np.random.RandomState(0)
    windows = windows_of(placements(count, augment, boxes))
    plain = np.array([plain_window(random, boxes, zoom=augment.probability > 0) for _ in range(count)])
    # crops beside the image are refused here: Caffe would give an image of nothing but fill
    plain = plain[(plain[:, 2:] > 0).all(axis=1) & (plain[:, :2] < 1).all(axis=1)]
    for measure in (
        lambda window: window[:, 0],
        lambda window: window[:, 3],
        lambda window: (window[:, 2:] - window[:, :2]).prod(axis=1),
        lambda window: (window[:, 3] - window[:, 1]) / (window[:, 2] - window[:, 0]),
        lambda window: plain_iou(window, boxes).max(axis=1, initial=0),
    ):
        # whole images are equal but for rounding
        assert distance(measure(windows).round(4), measure(plain).round(4)) < 0.09


def test_the_share_of_whole_images_is_a_seventh():
    """With one object as large as the image every sampler but .9's finds a crop nearly always."""
    windows = windows_of(placements(1500, NEVER, WHOLE_IMAGE_OBJECT))
    extents = windows[:, 2:] - windows[:, :2]
    assert np.mean((extents > 0.99999).all(axis=1)) == pytest.approx(1 / 7, abs=0.03)


def test_half_of_the_images_are_flipped_zoomed_out_or_not(zoom_outs, canvases):
    flipped, zoomed = zoom_outs.flip, canvases[:, 2] - canvases[:, 0] > 1.00001
    assert flipped.mean() == pytest.approx(0.5, abs=0.03)
    assert flipped[zoomed].mean() == pytest.approx(flipped[~zoomed].mean(), abs=0.05)
    assert not placements(50, NEVER).flip.any()
    assert placements(50, ALWAYS).flip.all()


def test_crops_are_flipped_as_often_as_whole_images():
    placed = placements(1000, AUGMENT)
    windows = windows_of(placed)
    whole = (windows[:, :2] <= 1e-4).all(axis=1) & (windows[:, 2:] >= 1 - 1e-4).all(axis=1)
    assert placed.flip[whole].mean() == pytest.approx(0.5, abs=0.1)
    assert placed.flip[~whole].mean() == pytest.approx(0.5, abs=0.06)


def test_the_number_of_trials_is_fixed():
    assert geometry.number_of_draws(AUGMENT) == 6 + 6 * 50 * 4


def test_without_augmentation_the_image_is_shown_as_it_is():
    placed = placements(20, NO_AUGMENTATION, size=(375, 500), image_size=(300, 300))
    np.testing.assert_array_equal(windows_of(placed, (375, 500), (300, 300)), np.tile([0, 0, 1, 1], (20, 1)))
    assert not placed.flip.any()


SIDE = st.sampled_from([1, 2, 3, 7, 31, 32, 200, 375, 500, 6000])
PART = st.floats(0, 1, width=32, allow_subnormal=False)


@st.composite
def visible_windows(draw):
    """An image size and a window with at least a pixel of the image."""
    size = np.array([draw(SIDE), draw(SIDE)])
    extent = np.array([draw(st.floats(0.2, 4)), draw(st.floats(0.2, 4))])
    extent = np.maximum(extent, 1 / size)
    # from one that ends with the first pixel to one that begins with the last
    start = (1 / size - extent) + np.array([draw(PART), draw(PART)]) * (1 + extent - 2 / size)
    return size, np.concatenate([start, start + extent])


def place(window, size, flip=False, image_size=(300, 300)):
    placed = geometry.place(tf.constant(window, tf.float32), tf.constant(size), image_size, tf.constant(flip))
    return Placement(*(part.numpy() for part in placed))


@settings(max_examples=60, deadline=None)
@given(visible_windows())
def test_whole_pixels_lie_inside_and_are_at_most_half_a_pixel_off(case):
    size, window = case
    placed = place(window, size)
    for start, extent, limit in (
        (placed.source_start, placed.source_size, size),
        (placed.target_start, placed.target_size, [300, 300]),
    ):
        assert (start >= 0).all() and (extent >= 1).all() and (start + extent <= limit).all()
    shown = np.concatenate([window[:2].clip(0), window[2:].clip(None, 1)])
    pixels = shown * np.tile(size, 2)
    scale = 300 / (window[2:] - window[:2])
    wanted = (shown - np.tile(window[:2], 2)) * np.tile(scale, 2)
    for got, exact, limit in (
        (np.concatenate([placed.source_start, placed.source_start + placed.source_size]), pixels, size),
        (np.concatenate([placed.target_start, placed.target_start + placed.target_size]), wanted, [300, 300]),
    ):
        # where a pixel is the least that can be shown, it may take the whole of it
        wide = np.tile((exact[2:] - exact[:2] > 1.001) & (np.array(limit) > 1), 2)
        assert (np.abs(got - exact)[wide] <= 0.5 + 1e-2).all()
        assert (np.abs(got - exact) <= 1 + 1e-2).all()


def plain_move(boxes, window, flip):
    """Boxes in [0, 1] of the window whose centre is inside, and which these are, one by one."""
    sides = np.tile(window[2:] - window[:2], 2)
    moved = [(box - np.tile(window[:2], 2)) / sides for box in np.asarray(boxes, np.float64)]
    if flip:
        moved = [np.array([box[0], 1 - box[3], box[2], 1 - box[1]]) for box in moved]
    centres = [(box[:2] + box[2:]) / 2 for box in moved]
    kept = [bool((centre >= 0).all() and (centre < 1).all()) for centre in centres]
    boxes = [box.clip(0, 1) for box, inside in zip(moved, kept, strict=True) if inside]
    return np.array(boxes).reshape(-1, 4), np.array(kept, bool)


def window_of(placed, size):
    return windows_of(Placement(*(part[np.newaxis] for part in placed)), size, (300, 300))[0]


def move(boxes, placed, size):
    as_tensors = Placement(*map(tf.constant, placed))
    moved, kept = geometry.move_boxes(tf.constant(boxes, tf.float32), as_tensors, tf.constant(size), (300, 300))
    return moved.numpy(), kept.numpy()


@settings(max_examples=60, deadline=None)
@given(visible_windows(), st.booleans(), st.integers(0, 5), st.integers(0, 10**6))
def test_boxes_follow_the_placed_pixels(case, flip, count, seed):
    size, window = case
    boxes = np.random.RandomState(seed).uniform(-0.2, 1.2, (count, 4)).astype(np.float32)
    placed = place(window, size, flip)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    shown = window_of(placed, size)
    clear = np.abs((centres - shown[:2]) * (centres - shown[2:])).min(axis=1, initial=1) > 1e-3
    moved, kept = move(boxes[clear], placed, size)
    wanted, wanted_kept = plain_move(boxes[clear], shown, flip)
    np.testing.assert_array_equal(kept, wanted_kept)
    np.testing.assert_allclose(moved, wanted, atol=1e-4)
    assert moved.shape == (kept.sum(), 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_boxes_of_a_photograph_are_within_a_pixel_of_the_exact_window(seed, flip):
    random = np.random.RandomState(seed)
    size, boxes = (375, 500), plain_crops(random, 5).astype(np.float32)
    window = plain_window(random, boxes, zoom=True)
    pixels = np.minimum(window[2:], 1) - np.maximum(window[:2], 0)
    if (pixels * size < 20).any():
        return
    moved, kept = move(boxes, place(window, size, flip), size)
    wanted, _ = plain_move(boxes[kept], window, flip)
    # half a pixel of the input, and half a pixel of the image in the input's
    slack = 0.5 + 0.5 * np.maximum(1, (300 / (window[2:] - window[:2]) / size).max())
    if len(wanted) == kept.sum():
        np.testing.assert_allclose(moved * 300, wanted * 300, atol=slack + 0.01)


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((0.4, 0.4, 0.6, 0.6), [0.3, 0.3, 0.7, 0.7]),
        ((0.0, 0.4, 0.6, 0.6), [0.0, 0.3, 0.7, 0.7]),  # cut off, its centre inside
        ((0.0, 0.0, 0.4, 0.4), None),  # its centre outside
        ((0.0, 0.25, 0.5, 0.75), [0.0, 0.0, 0.5, 1.0]),  # its centre on the upper edge
        ((0.5, 0.25, 1.0, 0.75), None),  # its centre on the lower edge
        ((0.5, 0.5, 0.5, 0.6), [0.5, 0.5, 0.5, 0.7]),  # no area
        ((0.6, 0.6, 0.4, 0.4), [0.7, 0.7, 0.3, 0.3]),  # inverted stays inverted
    ],
)
def test_an_object_stays_when_its_centre_is_inside(box, kept):
    placed = place([0.25, 0.25, 0.75, 0.75], (400, 400))
    moved, stays = move([box], placed, (400, 400))
    assert stays.tolist() == [kept is not None]
    np.testing.assert_allclose(moved, np.array([kept] if kept else []).reshape(-1, 4), atol=1e-6)


@pytest.mark.parametrize(
    ("start", "size", "flip"),
    [((0, 0), (12, 9), False), ((0, 0), (12, 9), True), ((3, 2), (4, 5), True), ((11, 8), (1, 1), False)],
)
def test_pixels_are_padded_to_the_input(start, size, flip):
    pixels = np.random.RandomState(0).uniform(-128, 128, (*size, 3)).astype(np.float32)
    placed = Placement(*map(tf.constant, ((0, 0), (1, 1), start, size, flip)))
    filled = geometry.fill_input(tf.constant(pixels), placed, (12, 9)).numpy()
    wanted = np.zeros((12, 9, 3), np.float32)
    wanted[start[0] : start[0] + size[0], start[1] : start[1] + size[1]] = pixels
    np.testing.assert_array_equal(filled, wanted[:, ::-1] if flip else wanted)


USELESS = {
    "none": np.zeros((0, 4)),
    "zero area": [[0.5, 0.5, 0.5, 0.9], [0.2, 0.2, 0.2, 0.2]],
    "inverted": [[0.9, 0.9, 0.1, 0.1], [0.2, 0.8, 0.6, 0.3]],
    "outside": [[1.5, 1.5, 2, 2], [-3, -3, -1, -1]],
}


@pytest.mark.parametrize("boxes", USELESS.values(), ids=USELESS)
def test_with_degenerate_boxes_only_the_whole_image_or_any_crop_is_chosen(boxes):
    windows = windows_of(placements(400, NEVER, np.array(boxes, np.float32)))
    whole = ((windows[:, 2:] - windows[:, :2]) > 0.99999).all(axis=1)
    assert np.isfinite(windows).all()
    assert whole.mean() == pytest.approx(0.5, abs=0.07)
