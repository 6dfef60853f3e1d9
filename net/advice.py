"""What would let SSD find more objects: presets, input sizes, scales and min_size, tried on the data set itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from operator import attrgetter

import numpy as np
import tensorflow.compat.v1 as tf

from net.coverage import Objects, Obstacles, look_for, nearest_boxes
from preprocessing import geometry
from utility.config import presets
from utility.config.feature_maps import boxes_per_cell, feature_maps
from utility.config.settings import Config

_GAIN = 0.02  # of the objects; what gains less is not worth a line
_FACTORS = (1.5, 2, 3)  # of the input's sides
_MANY_LEFT = 0.1  # of the objects
_ADVISED = ("network.image_size", "anchors.scales", "detection.min_size")
_KEPT = ("class_names", "network.backbone", "targets.match_threshold", "targets.neg_threshold")
_MEANINGS = (
    "  no box: no default box overlaps the object by so much, so that one default box alone learns it",
    "  below: height or width of the object; detections as small as that are dropped, see --min_size",
    "  compete: the best default box is that of another object of the image too, and one takes its next best",
)


def report(objects: Objects, config: Config, class_names: Sequence[str]) -> list[str]:
    """Return lines that tell which objects are hard to find with a config, and which flags would help.

    Flags are tried in the order of what they cost; those are listed that find more than all before them.
    """
    height, width = config.network.image_size
    asked = f"--preset={config.preset} --backbone={config.network.backbone}, input {height}x{width}"
    if not len(objects.labels):
        return [f"no object to look for with {asked}"]
    found = look_for(objects, config)
    table = [f"objects that are hard to find with {asked}:", *lines_by_class(objects, found, config, class_names)]
    few = sample(objects, 1000, 200)
    in_training = augmented(few, config)
    best, tried = found.shares(), [(config, found.shares())]
    for other in _candidates(config, objects, few.boxes_yxyx, in_training):
        if best.lost < _GAIN:
            break
        shares = look_for(objects, other).shares()
        if shares.lost <= best.lost - _GAIN:
            best = shares
            tried.append((other, shares))
    if len(tried) == 1:
        rows = [f"no preset, input size or scales that were tried find {100 * _GAIN:.0f} % more of them"]
    else:
        rows = ["what helps:  either  compete  no box in augmented pictures  pixels  flags to add"]
        rows += [_row(shares, in_training, other, config) for other, shares in tried]
    if best.lost >= _MANY_LEFT:
        rows.append("  the rest is too small or too long for these; tiles show it larger: convert with --tile_size=300")
    return [*table, *_MEANINGS, *rows]


def lines_by_class(objects: Objects, found: Obstacles, config: Config, class_names: Sequence[str]) -> list[str]:
    """Return the shares by class and of all as lines of a table; the name at index i has class id i + 1."""
    names = dict(enumerate(class_names, start=1))
    groups = [
        (f"{label:3d}", names.get(label, f"class {label}"), objects.labels == label)
        for label in np.unique(objects.labels).tolist()
    ]
    groups.append(("", "all", np.ones(len(objects.labels), bool)))
    width = max(len(name) for _, name, _ in groups)
    head = f"{'class':>{width + 4}}  objects  no box by {config.targets.match_threshold:g}"
    lines = [f"{head}  below {config.detection.min_size:g}  either  compete"]
    for number, name, chosen in groups:
        no_box, below, either, compete = (f"{100 * share:.1f} %" for share in found.shares(chosen))
        counts = f"{chosen.sum():7d}  {no_box:>13}  {below:>10}  {either:>6}  {compete:>7}"
        lines.append(f"{number:3} {name:>{width}}  {counts}")
    return lines


def _row(shares: Obstacles, in_training: np.ndarray, config: Config, asked: Config) -> str:
    lost = nearest_boxes(in_training, config).ious.max(axis=1) < config.targets.match_threshold
    either, compete, no_box = (
        f"{100 * share:.1f} %" for share in (shares.lost, shares.compete, lost.mean() if len(lost) else 0.0)
    )
    flags = " ".join(_flags(config, asked)) or "none: as it is"
    pixels = f"x {_pixels(config) / _pixels(asked):.1f}"
    return f"{either:>19}  {compete:>7}  {no_box:>28}  {pixels:>6}  {flags}"


def _pixels(config: Config) -> int:
    return math.prod(config.network.image_size)


def _flags(config: Config, asked: Config) -> Iterator[str]:
    """Give the flags that, added to those of the config asked for, make this one."""
    if config.preset != asked.preset:
        yield f"--preset={config.preset}"
    usual = presets.preset(asked.preset)
    given = [name for name in _ADVISED if attrgetter(name)(asked) != attrgetter(name)(usual)]
    base = _with(presets.preset(config.preset), asked, given)
    if config.network.image_size != base.network.image_size:
        height, width = config.network.image_size
        yield f"--train_image_size={height}" + f"x{width}" * (height != width)
    if config.anchors.scales != base.anchors.scales:
        yield f"--anchor_scales={','.join(map(str, config.anchors.scales))}"
    if config.detection.min_size != base.detection.min_size:
        yield f"--min_size={config.detection.min_size:g}"


def _with(config: Config, source: Config, settings: Sequence[str]) -> Config:
    """Return a config with some settings of another one."""
    return config.replace({name: attrgetter(name)(source) for name in settings})


def _candidates(config: Config, objects: Objects, shown: np.ndarray, in_training: np.ndarray) -> Iterator[Config]:
    """Give configs to try, the cheapest first: presets and larger inputs, each as it is and with scales fitted."""
    others = [_with(presets.preset(name), config, _KEPT) for name in presets.PRESETS if name != config.preset]
    others = [other for other in others if other.targets.coordinates == config.targets.coordinates]
    others = [other for other in others if _pixels(other) >= _pixels(config)]  # objects get no smaller in the input
    height, width = config.network.image_size
    sizes = [(round(factor * height), round(factor * width)) for factor in _FACTORS]
    larger = [config.replace({"network.image_size": size}) for size in sizes]
    sides = (objects.boxes_yxyx[:, 2:] - objects.boxes_yxyx[:, :2]).min(axis=1)
    fitted: list[tuple] = []
    small = {"detection.min_size": float(f"{np.quantile(sides, _GAIN / 4) / 2:.1g}")}  # half of nearly all sides
    for other in sorted([config, *others, *larger], key=_pixels):
        base = other.replace(small) if (sides <= other.detection.min_size).mean() >= _GAIN / 2 else other
        yield base
        grids = feature_maps(base.network), base.anchors.ratios
        if grids not in fitted:  # others with the same would be fitted alike
            fitted.append(grids)
            yield base.replace({"anchors.scales": fitted_scales(shown, in_training, base)})


def sample(objects: Objects, count: int, images: int, seed: int = 0) -> Objects:
    """Return the objects of images drawn at random, `images` at most, until there are `count` objects or more."""
    order = np.random.RandomState(seed).permutation(len(objects.sizes))[:images]
    counts = np.bincount(objects.images, minlength=len(objects.sizes))[order]
    chosen = np.isin(objects.images, order[: np.searchsorted(np.cumsum(counts), count) + 1])
    boxes, labels, numbers, sizes = objects
    return Objects(boxes[chosen], labels[chosen], numbers[chosen], sizes)


def augmented(objects: Objects, config: Config) -> np.ndarray:
    """Return the boxes of objects as one epoch of training shows them, float32 [M, 4] in [0, 1], all with an area."""
    input_size = config.network.image_size
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
        boxes, size, number = (tf.placeholder(*of) for of in ((tf.float32, [None, 4]), (tf.int32, [2]), (tf.int32, [])))
        uniform = tf.random.stateless_uniform([geometry.number_of_draws(config.augment)], tf.stack([0, number]))
        placement = geometry.draw_placement(boxes, size, input_size, uniform, config.augment)
        moved, _ = geometry.move_boxes(boxes, placement, size, input_size)
        found = np.zeros((0, 4), np.float32)
        for image in np.unique(objects.images):
            own = objects.boxes_yxyx[objects.images == image]
            fed = {boxes: own, size: objects.sizes[image], number: image}
            found = np.concatenate([found, session.run(moved, fed)])
    return found[(found[:, 2:] > found[:, :2]).all(axis=1)]


_STEPS = 48  # scales that are tried, in equal ratios
_LARGEST = 1.1  # of them
_APART = 1.15  # least ratio of a scale and the one before, so that each map has a size of its own, as in the paper


def fitted_scales(shown: np.ndarray, in_training: np.ndarray, config: Config) -> tuple[float, ...]:
    """Return scales with which default boxes overlap as many objects as can be by `match_threshold` or more.

    Both kinds of boxes count half: what a picture shows is what is to be found, and what the augmentation makes of it
    is what is learnt from. One scale after the other is set to the best of those between its neighbours, until none can
    be bettered, once from the config's own scales and once from scales in equal ratios over the sizes of the objects.
    They stay in increasing order.

    Args:
      shown: float32 [N, 4] in [0, 1], objects as they are in the pictures, N at least 1.
      in_training: float32 [M, 4] in [0, 1], objects after the augmentation.
      config: of the network.
    """
    boxes = np.concatenate([shown, in_training])
    weights = np.repeat([1 / len(shown), 1 / max(len(in_training), 1)], [len(shown), len(in_training)])
    # sides of squares with the areas of the boxes, as fractions of the input's shorter side
    sides = (boxes[:, 2:] - boxes[:, :2]) * config.network.image_size
    sizes = np.sqrt(sides.prod(axis=1)) / min(config.network.image_size)
    tried = np.geomspace(min(np.quantile(sizes, 0.01) / 2, _LARGEST / 2), _LARGEST, _STEPS)
    # by map and scale, bool [N + M]: whether a box of this scale overlaps, or the extra square of this side
    per_map = boxes_per_cell(config.anchors)
    columns = np.split(np.arange(sum(per_map)), np.cumsum(per_map)[:-1])
    by_ratio = np.zeros((len(per_map), _STEPS, len(boxes)), bool)
    by_square = np.zeros_like(by_ratio)
    for step, scale in enumerate(tried.tolist()):
        scales = (scale,) * len(config.anchors.scales)  # sqrt(s_k s_k+1) is this scale too
        ious = nearest_boxes(boxes, config.replace({"anchors.scales": scales})).ious
        for number, own in enumerate(columns):
            by_square[number, step] = ious[:, own[0]] >= config.targets.match_threshold
            by_ratio[number, step] = (ious[:, own[1:]] >= config.targets.match_threshold).any(axis=1)

    def value(chosen: list[int]) -> float:
        """Return the weight of the objects overlapped with the scales of these numbers, one a map and one more."""
        squares = [(low + high) // 2 for low, high in itertools.pairwise(chosen)]
        found = by_ratio[range(len(per_map)), chosen[:-1]] | by_square[range(len(per_map)), squares]
        return float(weights[found.any(axis=0)].sum())

    apart = math.ceil(math.log(_APART) / math.log(tried[1] / tried[0]))
    smallest, largest = np.quantile(sizes, [0.02, 0.98]).tolist()
    reached = []
    for start in (config.anchors.scales, np.geomspace(smallest, largest, len(config.anchors.scales))):
        chosen = kept_apart(np.searchsorted(tried, start), apart)
        best, before = value(chosen), -1.0
        while best > before:
            before = best
            for position in range(len(chosen)):
                low = chosen[position - 1] + apart if position else 0
                high = chosen[position + 1] - apart if position + 1 < len(chosen) else _STEPS - 1
                for step in range(low, high + 1):
                    other = [*chosen[:position], step, *chosen[position + 1 :]]
                    if (better := value(other)) > best + 1e-9:
                        best, chosen = better, other
        reached.append(chosen)
    return tuple(float(f"{tried[step]:.3g}") for step in max(reached, key=value))


def kept_apart(steps: np.ndarray, apart: int) -> list[int]:
    """Move increasing numbers of scales so far that each is `apart` or more above the one before."""
    lowest = apart * np.arange(len(steps))
    highest = _STEPS - 1 - lowest[::-1]
    return (np.maximum.accumulate(steps.clip(lowest, highest) - lowest) + lowest).tolist()
