"""Schedule, weight decay, and training steps that must not spoil anything."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net import estimator as estimator_lib
from net import ssd_model_fn as model
from net import ssd_net
from tests.helpers import voc_config
from utility import config as config_lib
from utility.training_log import NonFiniteLossError


def tiny_backbone(images, layers, network):
    """Maps of strides 8 and 16 from a few channels: SSD around a network that a test can train."""
    tensor = layers.pool(layers.conv(images, 16, 3, "conv1", strides=2), 2, 2, "pool1")
    stride8 = layers.conv(tensor, 32, 3, "conv2", strides=2)
    return [
        layers.l2_normalize(stride8, network.l2_norm_scale, "conv4_3_scale"),
        layers.conv(stride8, 32, 3, "conv3", strides=2),
    ]


@pytest.fixture
def tiny(monkeypatch):
    """A config whose backbone is `tiny_backbone`."""
    monkeypatch.setitem(ssd_net.BACKBONE_FUNCTIONS, "tiny", tiny_backbone)
    monkeypatch.setitem(config_lib.BACKBONES, "tiny", config_lib.Backbone(steps=(8, 16)))
    extra = tuple(
        config_lib.ExtraLayer(16, 32, stage.kernel, stage.stride, stage.padding)
        for stage in config_lib.NetworkConfig().extra_layers
    )
    return voc_config(
        network__backbone="tiny",
        network__extra_layers=extra,
        schedule__batch_size=2,
        schedule__max_number_of_steps=400,
        schedule__decay_boundaries=(),
        schedule__lr_decay_factors=(1.0,),
    )


def batch(images=None, boxes=((0.1, 0.1, 0.6, 0.6),), labels=(3,)):
    images = np.zeros((2, 300, 300, 3), np.float32) if images is None else images
    features = {"image": images, "image_id": np.array(["first", "second"])}
    boxes = np.tile(np.array(boxes, np.float32).reshape(1, -1, 4), (2, 1, 1))
    return features, {"boxes_yxyx": boxes, "labels": np.tile(np.array(labels, np.int64)[None], (2, 1))}


def make_estimator(config, model_dir):
    run = estimator_lib.run_config(
        str(model_dir), estimator_lib.session_config(), seed=1, save_checkpoints_steps=10**6
    )
    return estimator_lib.build(config, run, "channels_last", log_every_n_steps=10)


def repeated(features_and_labels):
    return lambda: tf.data.Dataset.from_tensors(features_and_labels).repeat()


def test_learning_rate_follows_the_reference_schedule():
    schedule = voc_config().schedule
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        rate = model.learning_rate(step, schedule)
        found = [session.run(rate, {step: s}) for s in (0, 500, 501, 80_000, 80_001, 100_001)]
    np.testing.assert_allclose(found, [1e-4, 1e-4, 1e-3, 1e-3, 1e-4, 1e-5], rtol=1e-6)


def test_learning_rate_has_a_floor():
    schedule = voc_config(schedule__end_learning_rate=5e-4).schedule
    with tf.Graph().as_default(), tf.Session() as session:
        assert session.run(model.learning_rate(tf.constant(110_000), schedule)) == pytest.approx(5e-4)


def test_weight_decay_counts_biases_and_a_tenth_of_the_scale():
    with tf.Graph().as_default(), tf.Session() as session:
        for name in ("a/kernel", "a/bias", "conv4_3_scale/weights"):
            tf.get_variable(name, initializer=tf.constant([2.0, 4.0]))
        session.run(tf.global_variables_initializer())
        variables = tf.trainable_variables()
        reference = session.run(model.weight_decay(variables, config_lib.LossConfig()))
        caffe = session.run(model.weight_decay(variables, config_lib.LossConfig(decay_biases=False)))
    assert reference == pytest.approx(5e-4 * (10 + 10 + 1))
    assert caffe == pytest.approx(5e-4 * (10 + 1))


def test_it_learns_a_picture_by_heart_and_finds_its_object_again(tiny, tmp_path):
    random = np.random.RandomState(0)
    images = random.uniform(-20, 20, (2, 300, 300, 3)).astype(np.float32)
    images[0, 60:180, 60:180] += 80
    images[1, 120:240, 90:270] -= 80
    features, labels = batch(images)
    labels["boxes_yxyx"] = np.array([[[0.2, 0.2, 0.6, 0.6]], [[0.4, 0.3, 0.8, 0.9]]], np.float32)
    labels["labels"] = np.array([[3], [5]])
    estimator = make_estimator(tiny.replace({"schedule.learning_rate": 3e-4}), tmp_path)
    estimator_lib.train(estimator, repeated((features, labels)), 200)
    features["size"] = np.array([[300, 300], [300, 300]], np.int32)
    input_fn = lambda: tf.data.Dataset.from_tensors(features)  # noqa: E731
    found = list(estimator_lib.detect(estimator, input_fn, tf.train.latest_checkpoint(tmp_path)))
    for image, (box, label) in enumerate([((0.2, 0.2, 0.6, 0.6), 3), ((0.4, 0.3, 0.8, 0.9), 5)]):
        assert found[image]["classes"][0] == label and found[image]["scores"][0] > 0.8
        np.testing.assert_allclose(found[image]["boxes_yxyx"][0], box, atol=0.03)
    metrics = estimator.evaluate(lambda: tf.data.Dataset.from_tensors((features, labels)))
    assert metrics["accuracy"] > 0.9 and np.isfinite(metrics["loss"])


@pytest.mark.parametrize(
    ("boxes", "labels"),
    [((), ()), (((0.5, 0.5, 0.5, 0.5),), (3,)), (((0.6, 0.6, 0.5, 0.5),), (3,)), (((0.1, 0.1, 0.6, 0.6),), (0,))],
    ids=["no object", "zero area", "inverted", "padding only"],
)
def test_a_batch_without_usable_objects_trains(tiny, tmp_path, capsys, boxes, labels):
    estimator = make_estimator(tiny, tmp_path)
    estimator_lib.train(estimator, repeated(batch(boxes=boxes, labels=labels)), 2)
    assert "step 2/400" not in capsys.readouterr().out  # every=10: the first step alone is told
    values = estimator.get_variable_value("ssd300/multibox_head/cls_0/bias")
    assert np.isfinite(values).all() and np.abs(values).max() > 0


def test_a_loss_that_is_not_finite_stops_the_run_and_spoils_nothing(tiny, tmp_path):
    images = np.zeros((2, 300, 300, 3), np.float32)
    images[1, 5, 5, 0] = np.nan
    estimator = make_estimator(tiny, tmp_path)
    estimator_lib.train(estimator, repeated(batch()), 3)
    with pytest.raises(NonFiniteLossError) as error:
        estimator_lib.train(estimator, repeated(batch(images)), 10)
    for part in ("step 4", "learning rate 0.001", "cross_entropy", "gradient_norm nan", "first, second"):
        assert part in str(error.value)
    with tf.Graph().as_default(), tf.Session():
        names = [name for name, _ in tf.train.list_variables(tf.train.latest_checkpoint(tmp_path))]
    assert all(np.isfinite(estimator.get_variable_value(name)).all() for name in names)


def test_a_run_goes_on_from_its_checkpoint(tiny, tmp_path, capsys):
    estimator_lib.train(make_estimator(tiny, tmp_path), repeated(batch()), 2)
    assert "starting from random weights" in capsys.readouterr().out
    again = make_estimator(tiny, tmp_path)
    estimator_lib.train(again, repeated(batch()), 5)
    assert "going on from" in capsys.readouterr().out
    assert again.get_variable_value("global_step") == 5


def test_scalars_are_written_for_tensorboard(tiny, tmp_path):
    estimator = make_estimator(tiny, tmp_path)
    estimator_lib.train(estimator, repeated(batch()), 2)
    events = [e for file in tmp_path.glob("events*") for e in tf.train.summary_iterator(str(file))]
    tags = {value.tag for event in events for value in event.summary.value}
    assert {"train/cross_entropy", "train/location", "train/l2", "train/accuracy", "train/learning_rate"} <= tags
