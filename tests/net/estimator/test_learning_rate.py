"""The learning rate of each step."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net.ssd_model_fn import learning_rate
from tests.builders.configs import voc_config


def test_learning_rate_follows_the_reference_schedule():
    schedule = voc_config().schedule
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        rate = learning_rate(step, schedule)
        found = [session.run(rate, {step: s}) for s in (0, 500, 501, 80_000, 80_001, 100_001)]
    np.testing.assert_allclose(found, [1e-4, 1e-4, 1e-3, 1e-3, 1e-4, 1e-5], rtol=1e-6)


def test_learning_rate_has_a_floor():
    schedule = voc_config(schedule__end_learning_rate=5e-4).schedule
    with tf.Graph().as_default(), tf.Session() as session:
        assert session.run(learning_rate(tf.constant(110_000), schedule)) == pytest.approx(5e-4)
