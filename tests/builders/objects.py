"""Examples as numpy values, and objects, with the boxes that a test wants."""

import numpy as np

from net.coverage import objects_of


def example(boxes_yxyx, labels=None, difficult=None, size=(300, 400)):
    boxes = np.array(boxes_yxyx, np.float32).reshape(-1, 4)
    return {
        "height": np.int32(size[0]),
        "width": np.int32(size[1]),
        "boxes_yxyx": boxes,
        "labels": np.array(np.ones(len(boxes)) if labels is None else labels, np.int64),
        "difficult": np.array(np.zeros(len(boxes)) if difficult is None else difficult, bool),
    }


def squares(side, count=40, images=20, seed=0):
    """Examples with objects of one size, [0, 1] of a side, at random places; two classes."""
    random = np.random.RandomState(seed)
    starts = random.uniform(0, 1 - side, (images, count // images, 2))
    boxes = np.concatenate([starts, starts + side], axis=2)
    return [example(each, labels=1 + random.randint(2, size=len(each)), size=(300, 300)) for each in boxes]


def square_objects(side, **values):
    return objects_of(squares(side, **values), use_difficult=False)
