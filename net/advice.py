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
from utility.run.sessions import cpu_session

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
    lines = [f"objects that are hard to find with {asked}:", *lines_by_class(objects, found, config, class_names)]
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
    lines += _MEANINGS
    if len(tried) == 1:
        lines.append(f"no preset, input size or scales that were tried find {100 * _GAIN:.0f} % more of them")
    else:
        lines.append("what helps:  either  compete  no box in augmented pictures  pixels  flags to add")
    for other, shares in tried if len(tried) > 1 else ():
        lost = nearest_boxes(in_training, other).ious.max(axis=1) < other.targets.match_threshold
        no_box = lost.mean() if len(lost) else 0.0
        either, compete, no_box = (f"{100 * share:.1f} %" for share in (shares.lost, shares.compete, no_box))
        flags = " ".join(_flags(other, config)) or "none: as it is"
        pixels = f"x {_pixels(other) / _pixels(config):.1f}"
        lines.append(f"{either:>19}  {compete:>7}  {no_box:>28}  {pixels:>6}  {flags}")
    if best.lost >= _MANY_LEFT:
        lines.append(
            "  the rest is too small or too long for these; tiles show it larger: convert with --tile_size=300"
        )
    return lines


def lines_by_class(objects: Objects, found: Obstacles, config: Config, class_names: Sequence[str]) -> list[str]:
    """Return the shares by class and of all as lines of a table; the name at index i has class id i + 1."""
    names = dict(enumerate(class_names, start=1))
    labels = np.unique(objects.labels).tolist()
    groups = [(f"{label:3d}", names.get(label, f"class {label}"), objects.labels == label) for label in labels]
    groups.append(("", "all", np.ones(len(objects.labels), bool)))
    width = max(len(name) for _, name, _ in groups)
    head = f"{'class':>{width + 4}}  objects  no box by {config.targets.match_threshold:g}"
    lines = [f"{head}  below {config.detection.min_size:g}  either  compete"]
    for number, name, chosen in groups:
        no_box, below, either, compete = (f"{100 * share:.1f} %" for share in found.shares(chosen))
        counts = f"{chosen.sum():7d}  {no_box:>13}  {below:>10}  {either:>6}  {compete:>7}"
        lines.append(f"{number:3} {name:>{width}}  {counts}")
    return lines


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


def sample(objects: Objects, count: int, images: int) -> Objects:
    """Return the objects of images drawn at random, `images` at most, until there are `count` objects or more."""
    order = np.random.RandomState(0).permutation(len(objects.sizes))[:images]
    counts = np.bincount(objects.images, minlength=len(objects.sizes))[order]
    chosen = np.isin(objects.images, order[: np.searchsorted(np.cumsum(counts), count) + 1])
    return Objects(objects.boxes_yxyx[chosen], objects.labels[chosen], objects.images[chosen], objects.sizes)


def augmented(objects: Objects, config: Config) -> np.ndarray:
    """Return the boxes of objects as one epoch of training shows them, float32 [M, 4] in [0, 1], all with an area."""
    input_size = config.network.image_size
    with cpu_session() as session:
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


_LARGEST = 1.1  # of the scales that are tried
_RATIO = 1.15  # of one to the next, so that each map has a size of its own, as in the paper


def fitted_scales(shown: np.ndarray, in_training: np.ndarray, config: Config) -> tuple[float, ...]:
    """Return increasing scales with which default boxes overlap as many objects as can be by `match_threshold` or more.

    `shown`, float32 [N, 4] in [0, 1], are at least one object as in the pictures, which is what is to be found;
    `in_training` [M, 4] are objects after the augmentation, which is what is learnt from. Both count half. One scale
    after the other is set to the best of those between its neighbours, until none can be bettered, once from the
    config's own scales and once from scales in equal ratios over the sizes of the objects.
    """
    boxes = np.concatenate([shown, in_training])
    weights = np.repeat([1 / len(shown), 1 / max(len(in_training), 1)], [len(shown), len(in_training)])
    # sides of squares with the areas of the boxes, as fractions of the input's shorter side
    sides = (boxes[:, 2:] - boxes[:, :2]) * config.network.image_size
    sizes = np.sqrt(sides.prod(axis=1)) / min(config.network.image_size)
    maps, least = len(config.anchors.scales) - 1, np.quantile(sizes, 0.01) / 2
    steps = max(math.ceil(math.log(_LARGEST / least, _RATIO)) + 1, 2 * maps)
    tried = _LARGEST / _RATIO ** np.arange(steps)[::-1]
    # by map and scale, bool [N + M]: whether a box of this scale overlaps, or the extra square of this side
    per_map = boxes_per_cell(config.anchors)
    columns = np.split(np.arange(sum(per_map)), np.cumsum(per_map)[:-1])
    by_ratio = np.zeros((maps, steps, len(boxes)), bool)
    by_square = np.zeros_like(by_ratio)
    for step, scale in enumerate(tried.tolist()):
        scales = (scale,) * (maps + 1)  # sqrt(s_k s_k+1) is this scale too
        overlaps = (
            nearest_boxes(boxes, config.replace({"anchors.scales": scales})).ious >= config.targets.match_threshold
        )
        for number, own in enumerate(columns):
            by_square[number, step], by_ratio[number, step] = overlaps[:, own[0]], overlaps[:, own[1:]].any(axis=1)

    def value(chosen: list[int]) -> float:
        """Return the weight of the objects overlapped with the scales of these numbers, one a map and one more."""
        squares = [(low + high) // 2 for low, high in itertools.pairwise(chosen)]
        found = by_ratio[range(maps), chosen[:-1]] | by_square[range(maps), squares]
        return float(weights[found.any(axis=0)].sum())

    smallest, largest = np.quantile(sizes, [0.02, 0.98]).tolist()
    reached = []
    for start in (config.anchors.scales, np.geomspace(smallest, largest, maps + 1)):
        # increasing numbers of scales
        order = np.arange(maps + 1)
        chosen = (
            np.maximum.accumulate(np.searchsorted(tried, start) - order).clip(0, steps - maps - 1) + order
        ).tolist()
        best, before = value(chosen), -1.0
        while best > before:
            before = best
            for position in range(maps + 1):
                low, high = [-1, *chosen][position], [*chosen, steps][position + 1]
                for step in range(low + 1, high):
                    other = [*chosen[:position], step, *chosen[position + 1 :]]
                    if (better := value(other)) > best + 1e-9:
                        best, chosen = better, other
        reached.append(chosen)
    return tuple(float(f"{tried[step]:.3g}") for step in max(reached, key=value))
