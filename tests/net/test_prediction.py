"""Detection with a checkpoint that does not fit the network."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from dataset.input import pictures_input_fn
from net.prediction import detect
from net.run_config import build
from preprocessing.views import tile_windows
from tests.builders.tiny_ssd import batch, make_estimator
from tests.builders.voc import picture
from utility.checkpoints import checkpoint_files


def test_detecting_with_a_checkpoint_of_another_network_is_one_line(tiny, parts, tmp_path):
    checkpoint = checkpoint_files.resolve(str(parts.folder))
    images = lambda: tf.data.Dataset.from_tensors(batch()[0])  # noqa: E731
    other = tiny.replace({"class_names": ("cat",)})
    with pytest.raises(ValueError, match=r"another network: .*cls_0/kernel has shape 3x3x\d+x8, .*config\.json"):
        list(detect(make_estimator(other, tmp_path), images, checkpoint))
    misnamed = build(tiny, make_estimator(tiny, tmp_path).config, "channels_last", model_scope="resnet")
    with pytest.raises(
        ValueError, match=r"resnet/conv1/kernel has no counterpart.* must be the scope of its network, one of ssd300"
    ):
        list(detect(misnamed, images, checkpoint))


def test_what_tiles_show_is_what_the_parts_of_a_picture_show(tiny, parts, tmp_path):
    """Without suppression, a picture has the detections of its four parts, each as a picture of its own."""
    checkpoint = checkpoint_files.resolve(str(parts.folder))
    whole = np.asarray(picture((120, 80), seed=4))
    config = tiny.replace(
        {"detection.nms_threshold": 1.0, "detection.select_threshold": 0.3, "detection.keep_topk": 50}
    )
    tiles = config.replace({"views.tile_size": 60, "views.tile_overlap": 0.0})
    windows = tile_windows(80, 120, 60, 0.0).tolist()
    parts_of_it = [(str(window), whole[window[0] : window[2], window[1] : window[3]]) for window in windows]
    (found,) = detect(
        make_estimator(tiles, tmp_path), pictures_input_fn(lambda: iter([("all", whole)]), tiles), checkpoint
    )
    alone = list(
        detect(make_estimator(config, tmp_path), pictures_input_fn(lambda: iter(parts_of_it), config), checkpoint)
    )
    assert (found["image_id"], found["size"].tolist()) == (b"all", [80, 120])
    wanted: list[tuple] = []
    for image, (ymin, xmin, *_) in zip(alone, windows, strict=True):
        boxes = image["boxes_yxyx"] * np.tile(image["size"], 2) + [ymin, xmin, ymin, xmin]
        wanted += zip(image["scores"].tolist(), image["classes"].tolist(), boxes.tolist(), strict=True)
    boxes = found["boxes_yxyx"] * np.tile(found["size"], 2)
    assert len(wanted) > 20 and len(found["scores"]) == len(wanted)
    assert (np.diff(found["scores"]) <= 0).all()
    left = set(range(len(wanted)))
    for score, class_id, box in wanted:  # scores that are nearly equal may be in another order
        distances = (
            np.abs(boxes - box).max(axis=1) + np.abs(found["scores"] - score) + 1e3 * (found["classes"] != class_id)
        )
        nearest = min(left, key=distances.__getitem__)
        assert distances[nearest] < 1e-3
        left.remove(nearest)
