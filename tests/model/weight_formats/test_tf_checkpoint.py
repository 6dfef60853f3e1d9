"""TensorFlow checkpoints of VGG-16."""

from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from model.weight_formats import recognise, tf_checkpoint
from tests.builders import weight_files as files
from tests.builders.weight_files import SMALL
from tests.model.weight_formats.helpers import refuse


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


SCOPE = "vgg_16/conv1/conv1_1"
UNUSABLE: dict[str, tuple[dict[str, Any], str | None]] = {
    "no bias": ({f"{SCOPE}/biases": None}, "conv1_1 has no bias"),
    "a kernel of another size": ({f"{SCOPE}/weights": np.zeros((3, 3, 300, 40), np.float32)}, "3, 3, 300, 40"),
    "a scalar": ({f"{SCOPE}/weights": np.float32(1)}, r"kernel of \(\)"),
    "whole numbers": ({f"{SCOPE}/weights": np.zeros((3, 3, 3, 4), np.int32)}, "int32, and weights are floating-point"),
    "texts": ({f"{SCOPE}/biases": np.array([b"a"] * 4)}, "object, and weights are floating-point"),
    "yes and no": ({f"{SCOPE}/weights": np.zeros((3, 3, 3, 4), bool)}, "weights are floating-point"),
    "complex numbers": ({f"{SCOPE}/biases": np.zeros(4, np.complex64)}, "weights are floating-point"),
    "another script's digits": ({"vgg_16/conv\u0663/conv\u0663_1/weights": np.zeros(3, np.float32)}, None),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_variable_that_is_no_kernel_is_refused(tmp_path, weights, kind):
    changed, message = UNUSABLE[kind]
    files.write_slim(tmp_path / "a.ckpt", weights)
    reader = tf.train.load_checkpoint(str(tmp_path / "a.ckpt"))
    variables = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    variables = {name: value for name, value in {**variables, **changed}.items() if value is not None}
    (tmp_path / "b").mkdir()
    tf_checkpoint.write(str(tmp_path / "b" / "b.ckpt"), variables)
    if message:
        refuse(tmp_path / "b" / "b.ckpt", message)
    else:
        assert len(recognise.read(str(tmp_path / "b"), SMALL).variables) == 30
