"""A training step: from losses to updated variables, with momentum SGD and an adaptive loss scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from net.estimator.gradients import GradientsAndVariables, safe_gradients, summed_over_parts
from net.estimator.learning_rate import learning_rate
from utility.config.settings import ScheduleConfig

LOSS_SCALE = "current_loss_scale"  # TensorFlow's name of the variable, in checkpoints of mixed precision
_FIRST_SCALE = 2.0**10  # of the loss; arXiv 1710.03740, section 3.2, found 8 to be enough for SSD

Scalars = dict[str, tf.Tensor]


class Update(NamedTuple):
    """A training step."""

    train_op: tf.Operation
    scalars: Scalars  # those of the loss, and `learning_rate`, `gradient_norm` (and `loss_scale`)
    step: tf.Tensor  # int64 [], the number of the step, counted from 1


def update(
    losses: Callable[[Any], Scalars],
    batch: Any,
    schedule: ScheduleConfig,
    *,
    parts: int = 1,
    mixed_precision: bool = False,
    before_slots: Callable[[], None] = lambda: None,
) -> Update:
    """Build a training step.

    Args:
      losses: builds the graph of a part of the batch, and returns `loss` and other scalars, float32 []; those of the
        batch are the sums over its parts.
      batch: tensors in any structure; their first axis is the image, and its size a multiple of `parts`.
      schedule: of the optimizer.
      parts: the batch is computed in so many parts, one after the other, in the memory of one.
      mixed_precision: scale the loss, so that small gradients do not become 0 in float16. The scale is dynamic: if it
        was too high, gradients overflow, and the step applies gradients of 0.
      before_slots: called when the network is built, and before the optimizer adds its variables.
    """
    global_step = tf.train.get_or_create_global_step()
    rate = learning_rate(global_step, schedule)
    optimizer = tf.train.MomentumOptimizer(rate, schedule.momentum)
    loss_scale = tf.mixed_precision.DynamicLossScale(_FIRST_SCALE) if mixed_precision else None
    scale = loss_scale() if loss_scale else None
    pairs, scalars = _gradients(optimizer, losses, batch, parts, scale)
    before_slots()
    safe = safe_gradients(pairs, scalars["loss"], schedule, scale)
    scalars |= {"learning_rate": rate, "gradient_norm": safe.norm} | ({} if scale is None else {"loss_scale": scale})
    step = tf.identity(global_step)  # read before it is incremented
    with tf.control_dependencies([step, *scalars.values()]):
        train_op = optimizer.apply_gradients(safe.pairs, global_step)
        if loss_scale:
            train_op = tf.group(train_op, _adapt(loss_scale, safe.finite))
    return Update(train_op, scalars, step + 1)


def _gradients(optimizer, losses, batch, parts: int, scale: tf.Tensor | None) -> tuple[GradientsAndVariables, Scalars]:
    variables: list[tf.Variable] = []

    def of_part(part: Any) -> tuple[list[tf.Tensor], Scalars]:
        scalars = losses(part)
        pairs = optimizer.compute_gradients(scalars["loss"] if scale is None else scalars["loss"] * scale)
        variables[:] = [variable for gradient, variable in pairs if gradient is not None]
        return [gradient for gradient, _ in pairs if gradient is not None], scalars

    gradients, scalars = summed_over_parts(of_part, batch, parts)
    if scale is not None:
        gradients = [gradient / scale for gradient in gradients]
    return list(zip(gradients, variables, strict=True)), scalars


def _adapt(loss_scale, finite: tf.Tensor) -> tf.Operation:
    """Halve the loss scale after an overflow, double it after many steps without one: arXiv 1710.03740, section 3.2."""
    gradient = tf.where_v2(finite, 0.0, float("inf"))  # update() looks only at whether it is finite

    def adapted(strategy, gradient) -> tf.Operation:
        del strategy
        return loss_scale.update([gradient])[0]

    return tf.distribute.get_replica_context().merge_call(adapted, args=(gradient,))
