"""Gradients summed over parts of a batch, and clipped."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from net import ssd_model_fn
from net.accumulation import in_parts
from utility.config.settings import ScheduleConfig


def test_only_sums_live_on_from_part_to_part():
    """The loop's own graph holds the work of a part, however many parts there are."""
    sizes = []
    for parts in (2, 8):
        with tf.Graph().as_default() as graph:
            batch = tf.ones([8, 3])
            total, _ = in_parts(lambda part: ((tf.reduce_sum(part),), []), parts)(batch)
            with tf.Session() as session:
                assert session.run(total) == (24.0,)
            sizes.append(len(graph.get_operations()))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(("largest", "factor"), [(0.0, 1.0), (6.5, 0.5), (13.0, 1.0), (1e6, 1.0)])
def test_gradients_are_clipped_by_the_norm_of_all_of_them(largest, factor):
    """The norm of (3, 4) and (12) is 13."""
    with tf.Graph().as_default(), tf.Session() as session:
        a, b = tf.get_variable("a", initializer=[0.0, 0.0]), tf.get_variable("b", initializer=[0.0])
        loss = tf.reduce_sum(a * [3.0, 4.0]) + tf.reduce_sum(b * 12.0)
        schedule = ScheduleConfig(clip_gradient_norm=largest)
        computed = tf.train.GradientDescentOptimizer(1.0).compute_gradients(loss)
        norm, _, pairs = ssd_model_fn.safe_gradients(computed, loss, schedule)
        session.run(tf.global_variables_initializer())
        (first, second), norm = session.run([[gradient for gradient, _ in pairs], norm])
    np.testing.assert_allclose(first, np.array([3, 4]) * factor, rtol=1e-6)
    np.testing.assert_allclose(second, [12 * factor], rtol=1e-6)
    assert norm == pytest.approx(13), "the log shows what it was"
