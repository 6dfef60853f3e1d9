"""Detection with a checkpoint that does not fit the network."""

import pytest
import tensorflow.compat.v1 as tf

from net.estimator.prediction import detect
from net.estimator.run_config import build
from tests.builders.tiny_ssd import batch, make_estimator
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
