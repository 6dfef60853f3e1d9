"""The learning rate of a step."""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from utility.config.settings import ScheduleConfig


def learning_rate(global_step: tf.Tensor, schedule: ScheduleConfig) -> tf.Tensor:
    """Return the learning rate of a step, float32 []: piecewise constant, and never below end_learning_rate."""
    rates = [max(schedule.learning_rate * factor, schedule.end_learning_rate) for factor in schedule.lr_decay_factors]
    boundaries = tf.constant(schedule.decay_boundaries, tf.int64)
    passed = tf.reduce_sum(tf.cast(tf.cast(global_step, tf.int64) > boundaries, tf.int32))
    return tf.gather(tf.constant(rates, tf.float32), passed)
