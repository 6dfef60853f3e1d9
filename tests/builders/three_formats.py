"""One set of pictures with its labels in three formats, which mean the same boxes."""

from decimal import Decimal

import numpy as np

from tests.builders.coco import CocoBuilder
from tests.builders.voc import SIZE, VocBuilder, box, picture
from tests.builders.yolo import YoloBuilder

NAMES = ("ant", "bee", "cat")


def write(root, count, seed=0):
    """Write voc/, coco/ and yolo/ with `count` pictures; returns their builders.

    A picture has 0 to 4 boxes of whole pixels, of a width and height that are even, so that the centre is a whole pixel
    too; YOLO's fractions have 28 decimals. So no format rounds what another keeps.
    """
    rng = np.random.default_rng(seed)
    voc, coco, yolo = VocBuilder(root / "voc"), CocoBuilder(root / "coco"), YoloBuilder(root / "yolo")
    coco.document["categories"] = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=5)]
    for image_id in range(100, 100 + count):
        image = picture(seed=image_id)
        found = [_box(rng) for _ in range(rng.integers(0, 5))]
        objects = [box(x1, y1, x2, y2, NAMES[each]) for each, (x1, y1, x2, y2) in found]
        voc.add(str(image_id), *objects, name=f"{image_id}.png", image=image)
        coco.add(image_id, name=f"{image_id}.png")
        for each, (xmin, ymin, xmax, ymax) in found:
            coco.add_object(image_id, (xmin, ymin, xmax - xmin, ymax - ymin), category_id=5 + each)
        image.save(coco.folder / f"{image_id}.png")
        yolo.add(f"{image_id}.png", *(f"{each} {_fractions(*edges)}" for each, edges in found), image=image)
    coco.save()
    yolo.describe(f"path: .\ntrain: images/train\nnames: [{', '.join(NAMES)}]\n")
    return voc, coco, yolo


def _box(rng):
    xmin, ymin = rng.integers(0, SIZE[0] - 10), rng.integers(0, SIZE[1] - 10)
    width, height = 2 * rng.integers(1, 6), 2 * rng.integers(1, 6)
    return int(rng.integers(len(NAMES))), (int(xmin), int(ymin), int(xmin + width), int(ymin + height))


def _fractions(xmin, ymin, xmax, ymax):
    """YOLO's numbers of a box, as decimals."""
    pixels = ((xmin + xmax) / 2, (ymin + ymax) / 2, xmax - xmin, ymax - ymin)
    return " ".join(f"{Decimal(value) / side:.28f}" for value, side in zip(pixels, SIZE * 2, strict=True))
