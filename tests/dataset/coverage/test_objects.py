"""The objects that count, samples of them, and what the augmentation makes of them."""

import numpy as np

from net.coverage import augmented, objects_of
from tests.builders.configs import voc_config
from tests.dataset.coverage.builders import example, square_objects
from utility.config.settings import NO_AUGMENTATION

EXAMPLES = [
    example([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.2, 0.6], [-0.5, 0.5, 0.5, 1.5]], [1, 2, 3], size=(30, 40)),
    example([]),
    example([[0.3, 0.3, 0.6, 0.6], [1.2, 0.1, 1.4, 0.3]], [4, 5], [True, False]),
]


def test_objects_without_area_or_outside_do_not_count_and_difficult_ones_only_if_they_are_learnt():
    objects = objects_of(EXAMPLES, use_difficult=False)
    np.testing.assert_allclose(objects.boxes_yxyx, [[0.1, 0.1, 0.5, 0.5], [0, 0.5, 0.5, 1]])
    assert (objects.labels.tolist(), objects.images.tolist()) == ([1, 3], [0, 0])
    assert objects.sizes.tolist() == [[30, 40], [300, 400], [300, 400]]
    assert objects_of(EXAMPLES, use_difficult=True).labels.tolist() == [1, 3, 4]
    assert objects_of([], use_difficult=True).boxes_yxyx.shape == (0, 4)


def test_a_sample_has_whole_images_and_no_more_than_needed():
    objects = square_objects(0.2, count=60, images=20)  # 3 an image
    sample = objects.sample(objects=10, images=15)
    assert len(sample.labels) == 12 and len(np.unique(sample.images)) == 4
    assert len(objects.sample(objects=1000, images=15).labels) == 45
    assert len(objects.sample(objects=1000, images=1000).labels) == 60


def test_augmented_objects_are_those_of_training():
    objects = square_objects(0.2, count=200, images=100)
    same = augmented(objects, voc_config(augment=NO_AUGMENTATION))
    np.testing.assert_allclose(same, objects.boxes_yxyx, atol=1e-5)
    sides = (boxes := augmented(objects, voc_config()))[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0 and boxes.max() <= 1 and sides.min() > 0
    assert sides.min() < 0.1 and sides.max() > 0.4  # zoomed out, and cropped
