"""Training steps: parts of a batch, loss scaling, and gradients that are not finite."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net import ssd_model_fn, training
from net.layers import Precision
from net.ssd_net import ssd_network
from tests.builders.configs import assert_same_training, voc_config
from tests.builders.tiny_ssd import make_estimator, repeated, tiny_config, variables
from utility.config.settings import ScheduleConfig

SCHEDULE = ScheduleConfig(learning_rate=0.1, decay_boundaries=(), lr_decay_factors=(1.0,))


@pytest.fixture
def tiny(monkeypatch):
    """A config around a network that a test can train."""
    return tiny_config(monkeypatch.setitem).replace({"schedule.batch_size": 4})


def four_images():
    """Four images with one, two, no and one object."""
    images = np.random.RandomState(3).uniform(-100, 100, (4, 300, 300, 3)).astype(np.float32)
    boxes, labels = np.zeros((4, 2, 4), np.float32), np.array([[3, 0], [4, 5], [0, 0], [7, 0]])
    boxes[0, 0], boxes[1], boxes[3, 0] = (
        (0.1, 0.1, 0.6, 0.6),
        ((0.2, 0.3, 0.5, 0.9), (0.5, 0.1, 0.8, 0.3)),
        (0, 0, 1, 1),
    )
    return {"image": images, "image_id": np.array(list("abcd"))}, {"boxes_yxyx": boxes, "labels": labels}


def train(config, model_dir, steps, element=None, **params):
    """Train on one batch, and return the Estimator."""
    estimator = make_estimator(config, model_dir, log_every_n_steps=1, **params)
    training.train(estimator, repeated(element or four_images()), steps)
    return estimator


def step_one(log):
    return next(line for line in log.splitlines() if line.startswith("step 1/"))


def test_a_batch_in_parts_is_the_whole_batch_whatever_lies_in_each(tiny, tmp_path, capsys):
    whole = variables(train(tiny, tmp_path / "whole", 3))
    told = capsys.readouterr().out
    parted = variables(train(tiny, tmp_path / "parted", 3, accumulate_steps=4))
    assert_same_training(parted, whole)
    assert step_one(told) == step_one(capsys.readouterr().out)
    assert np.abs(whole["ssd300/conv2/kernel/Momentum"]).max() > 1


def one_step(gradient_of, mixed_precision=True, scale=None):
    """Make a step of one variable, 1.0, whose gradient `gradient_of` makes of the loss that it is given.

    Returns the variable and the logged scalars after it.
    """
    precision = Precision.FLOAT16 if mixed_precision else Precision.FLOAT32
    params = ssd_model_fn.Params(voc_config().replace({"schedule": SCHEDULE}), "channels_last", precision=precision)

    def total_loss(output, *_):
        loss = tf.reduce_sum(gradient_of(output, tf.ones([1, 1])))
        return ssd_model_fn.Losses(loss, *[tf.constant(1.0)] * 5)

    with tf.Graph().as_default(), tf.Session() as session, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssd_model_fn, "_network", lambda *_, **__: tf.get_variable("kernel", initializer=1.0))
        patch.setattr(ssd_model_fn, "total_loss", total_loss)
        labels = {"boxes_yxyx": tf.zeros([1, 0, 4]), "labels": tf.zeros([1, 0], tf.int64)}
        spec = ssd_model_fn.ssd_model_fn({"image": tf.zeros([1])}, labels, tf.estimator.ModeKeys.TRAIN, params)
        session.run(tf.global_variables_initializer())
        held = {variable.op.name: variable for variable in tf.global_variables()}
        if scale:
            held[ssd_model_fn.LOSS_SCALE].load(scale, session)
        (log,) = spec.training_hooks
        scalars = session.run([log.before_run(None).fetches, spec.train_op])[0]
        return session.run(held), scalars


def test_a_gradient_that_overflows_changes_nothing_but_the_scale():
    def overflows(weight, part):
        return tf.cast(tf.cast(weight, tf.float16) * 30_000, tf.float32) * part

    held, scalars = one_step(overflows)  # more than float16 holds, times 2^10
    assert held["kernel"] == 1.0 and held["kernel/Momentum"] == 0.0
    assert held[ssd_model_fn.LOSS_SCALE] == 2.0**9 and held["global_step"] == 1
    assert scalars["gradient_norm"] == 0.0 and scalars["loss"] == 30_000
    held, scalars = one_step(overflows, scale=2.0)
    assert held["kernel"] == pytest.approx(1.0 - 0.1 * 30_000) and held[ssd_model_fn.LOSS_SCALE] == 2.0
    assert scalars["gradient_norm"] == 30_000


def test_a_small_gradient_is_not_lost():
    def small(weight, part):
        return tf.cast(tf.cast(weight, tf.float16), tf.float32) * 1e-7 * part

    assert one_step(small)[0]["kernel/Momentum"] == pytest.approx(1e-7, rel=1e-3)
    assert one_step(small, scale=1.0)[0]["kernel/Momentum"] != pytest.approx(1e-7, rel=1e-3)


@pytest.mark.parametrize("scale", [None, 1.0])
def test_a_gradient_that_no_scale_helps_stops_the_run(scale):
    def infinite(weight, part):
        return weight * np.float32(np.inf) * part if scale is None else tf.sqrt(weight - 1.0) * part

    held, scalars = one_step(infinite, scale=scale)
    assert held["kernel"] == 1.0
    assert scalars["gradient_norm"] == np.inf  # which the training log stops at


def test_mixed_precision_learns_in_float32_variables(tiny, tmp_path):
    element = tf.nest.map_structure(lambda values: values[:1], four_images())  # float16 is slow here
    element[0]["image"] /= 20  # a scale of 2^10 is not too high for such gradients
    trained = variables(train(tiny, tmp_path, 2, element, precision=Precision.FLOAT16))
    assert {value.dtype for name, value in trained.items() if "ssd300" in name} == {np.dtype(np.float32)}
    momenta = [value for name, value in trained.items() if name.endswith("/Momentum")]
    assert all(np.isfinite(value).all() for value in momenta) and max(np.abs(value).max() for value in momenta) > 1
    assert trained[ssd_model_fn.LOSS_SCALE] == 2.0**10 and trained["good_steps"] == 2


def test_float16_gives_what_float32_gives_nearly(tiny):
    outputs = []
    for half in (False, True):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(1)
            image = tf.constant(four_images()[0]["image"][:1])
            output = ssd_network(image, tiny, "channels_last", mixed_precision=half)
            session.run(tf.global_variables_initializer())
            outputs.append(session.run(output))
    for one, other in zip(*outputs, strict=True):
        assert other.dtype == np.float32 and np.abs(one - other).max() > 0
        np.testing.assert_allclose(other, one, atol=5e-3 * np.abs(one).max())


def test_mixed_precision_does_not_go_on_from_a_run_without(tiny, tmp_path):
    train(tiny, tmp_path, 1)
    with pytest.raises(ValueError, match=r"--mixed_precision: .*ckpt-1 was trained without it"):
        train(tiny, tmp_path, 2, precision=Precision.FLOAT16)
