"""TensorFlow checkpoints of VGG-16."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from model.weight_formats import recognise
from tests.builders import weight_files as files
from tests.builders.weight_files import SMALL


def test_a_result_of_the_importer_or_the_references_own_checkpoint_stays_as_it_is(tmp_path, weights):
    files.write_slim(tmp_path / "a.ckpt", files.reduced(weights))
    for name in ("a.ckpt", "a.ckpt.index", ""):
        imported = recognise.read(str(tmp_path / name), SMALL)
        np.testing.assert_array_equal(
            imported.variables["vgg_16/conv1/conv1_1/weights"], weights["conv1_1"][0].transpose(2, 3, 1, 0)
        )


def test_a_v1_checkpoint_is_one_file(tmp_path, weights):
    with tf.Graph().as_default(), tf.Session() as session:
        for name, (kernel, bias) in weights.items():
            scope = f"vgg_16/{name}" if name in ("fc6", "fc7") else f"vgg_16/{name[:5]}/{name}"
            tf.get_variable(f"{scope}/weights", initializer=kernel.transpose(2, 3, 1, 0))
            tf.get_variable(f"{scope}/biases", initializer=bias)
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(write_version=tf.train.SaverDef.V1)
        saver.save(session, str(tmp_path / "vgg_16.ckpt"), write_meta_graph=False, write_state=False)
    assert [path.name for path in tmp_path.iterdir()] == ["vgg_16.ckpt"]
    imported = recognise.read(str(tmp_path / "vgg_16.ckpt"), SMALL)
    assert imported.description == "TF-slim's VGG-16"
    np.testing.assert_array_equal(imported.variables["vgg_16/fc6/biases"], weights["fc6"][1][::4])


def test_a_checkpoint_of_a_detector_needs_no_import(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("ssd300/conv1/conv1_1/kernel", initializer=np.zeros((3, 3, 3, 64), np.float32))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    with pytest.raises(ValueError, match="a whole detector, which needs no import: give it to --checkpoint_path"):
        recognise.read(str(tmp_path / "model.ckpt"))


def test_a_checkpoint_without_fc6_does_not_tell_its_order_of_channels(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("vgg_16/conv1/conv1_1/weights", initializer=np.zeros((3, 3, 3, 64), np.float32))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    with pytest.raises(ValueError, match="no vgg_16/fc6, whose shape distinguishes TF-slim's RGB weights from BGR"):
        recognise.read(str(tmp_path / "model.ckpt"))
