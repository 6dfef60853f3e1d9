"""From losses to updated variables: schedule, parts of a batch, loss scaling, and steps that spoil nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from utility.config.settings import ScheduleConfig

LOSS_SCALE = "current_loss_scale"  # TensorFlow's name of the variable, in checkpoints of mixed precision
_FIRST_SCALE = 2.0**10  # of the loss; arXiv 1710.03740, section 3.2, found 8 to be enough for SSD
Scalars = dict[str, tf.Tensor]
Pairs = list[tuple[tf.Tensor, tf.Variable]]


class Update(NamedTuple):
    """A training step."""

    train_op: tf.Operation
    scalars: Scalars  # those of the loss, and `learning_rate`, `gradient_norm` (and `loss_scale`)
    step: tf.Tensor  # int64 [], the number of the step as the user counts, from 1


def learning_rate(global_step: tf.Tensor, schedule: ScheduleConfig) -> tf.Tensor:
    """Return the rate of a step, float32: the factor of its interval, never below end_learning_rate."""
    rates = [max(schedule.learning_rate * factor, schedule.end_learning_rate) for factor in schedule.lr_decay_factors]
    boundaries = tf.constant(schedule.decay_boundaries, tf.int64)
    passed = tf.reduce_sum(tf.cast(tf.cast(global_step, tf.int64) > boundaries, tf.int32))
    return tf.gather(tf.constant(rates, tf.float32), passed)


def update(
    losses: Callable[[Any], Scalars],
    batch: Any,
    schedule: ScheduleConfig,
    *,
    parts: int = 1,
    mixed_precision: bool = False,
    before: Callable[[], None] = lambda: None,
) -> Update:
    """Build a training step.

    Args:
      losses: builds the graph of a part of the batch, and gives `loss` and whatever scalars else, float32 []. What
        they are for the batch is the sum over its parts.
      batch: tensors in any structure; their first axis is the image, and its size a multiple of `parts`.
      schedule: of the optimizer.
      parts: the batch is computed in so many parts, one after the other, in the memory of one.
      mixed_precision: whether the loss is scaled, against gradients that float16 cannot tell from 0. The scale is
        dynamic: where it was too high, gradients overflow, and the step counts as one with gradients of 0.
      before: called when the network stands, and before the optimizer adds its variables.
    """
    global_step = tf.train.get_or_create_global_step()
    rate = learning_rate(global_step, schedule)
    optimizer = tf.train.MomentumOptimizer(rate, schedule.momentum)
    loss_scale = tf.mixed_precision.DynamicLossScale(_FIRST_SCALE) if mixed_precision else None
    scale = loss_scale() if loss_scale else None
    pairs, scalars = _gradients(optimizer, losses, batch, parts, scale)
    before()
    pairs, norm, finite = safe_gradients(pairs, scalars["loss"], schedule, scale)
    scalars |= {"learning_rate": rate, "gradient_norm": norm} | ({} if scale is None else {"loss_scale": scale})
    step = tf.identity(global_step)  # read before it is raised
    with tf.control_dependencies([step, *scalars.values()]):
        train_op = optimizer.apply_gradients(pairs, global_step)
        if loss_scale:
            train_op = tf.group(train_op, _adapt(loss_scale, finite))
    return Update(train_op, scalars, step + 1)


def _gradients(optimizer, losses, batch, parts: int, scale: tf.Tensor | None) -> tuple[Pairs, Scalars]:
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


def summed_over_parts(compute: Callable[[Any], Any], batch: Any, parts: int) -> Any:
    """Return the sum of what `compute` gives for each of so many equal parts of a batch, one after the other.

    The first part builds the graph and its variables; a loop computes the others in a second copy of it, in which
    only the sums live on from one part to the next.
    """
    if parts == 1:
        return compute(batch)

    def part(number) -> Any:
        return tf.nest.map_structure(lambda t: tf.reshape(t, [parts, t.shape[0] // parts, *_sides(t)])[number], batch)

    def next_number(number, sums: Any) -> tf.Tensor:
        with tf.control_dependencies(tf.nest.flatten(sums)):  # nothing of the next part before this one is over
            return number + tf.constant(1)

    def add_part(number: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            sums = tf.nest.map_structure(tf.add, sums, compute(part(number)))
        return next_number(number, sums), sums

    first = compute(part(0))
    begin = [next_number(0, first), first]
    return tf.while_loop(lambda number, _: number < parts, add_part, begin, parallel_iterations=1)[1]


def _sides(tensor: tf.Tensor) -> list:
    """Return the sizes of all axes but the first, as far as the graph knows them."""
    known = tensor.shape.as_list()[1:]
    return [tf.shape(tensor)[axis] if size is None else size for axis, size in enumerate(known, start=1)]


def safe_gradients(
    pairs: Sequence, loss: tf.Tensor, schedule: ScheduleConfig, scale: tf.Tensor | None = None
) -> tuple[Pairs, tf.Tensor, tf.Tensor]:
    """Return (gradient, variable) pairs, the gradients' norm, and whether all of them are finite; else all are 0.

    The training log stops the run at a norm that is not finite; by then no variable has been spoilt, and neither
    is the checkpoint that may be written at the same step. Where a loss scale above 1 may be the reason, the norm
    is given as 0 and the run goes on.
    """
    # a replica's gradients are its share of the mean: times their number, the norm is near that of the whole
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    norm = tf.global_norm([gradient for gradient, _ in pairs]) * replicas
    # every replica must hear of the one that went wrong, or their variables would part
    spoilt = tf.cast(tf.logical_not(tf.is_finite([loss, norm])), tf.float32)
    spoilt = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, spoilt)
    loss_is_finite, finite = tf.equal(spoilt[0], 0.0), tf.equal(tf.reduce_sum(spoilt), 0.0)

    if schedule.clip_gradient_norm:
        pairs = _clipped(pairs, schedule.clip_gradient_norm)

    def safe(gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        factor = schedule.bias_lr_factor if is_bias(variable) else 1.0
        # tf.where would copy 26 million numbers a step
        usable = tf.cond(finite, lambda: gradient, lambda: tf.zeros_like(gradient))
        return usable if factor == 1.0 else usable * factor

    overflown = tf.constant(False) if scale is None else tf.logical_and(loss_is_finite, scale > 1.0)
    # an infinite norm is what the training log stops at, on whichever replica it reads
    shown = tf.where_v2(finite, norm, tf.where_v2(overflown, 0.0, float("inf")))
    return [(safe(g, v), v) for g, v in pairs], shown, finite


def _clipped(pairs: Sequence, largest: float) -> Pairs:
    """Scale (gradient, variable) pairs so that the norm of all of them together is `largest` at most.

    Replicas add their gradients up when they apply them, so it is the sum that must not be larger.
    """
    replica = tf.distribute.get_replica_context()
    gradients = [gradient for gradient, _ in pairs]
    if replica.num_replicas_in_sync > 1:
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    scale = largest / tf.maximum(tf.global_norm(gradients), largest)
    return [(gradient * scale, variable) for gradient, variable in pairs]


def _adapt(loss_scale, finite: tf.Tensor) -> tf.Operation:
    """Halve the loss scale after an overflow, double it after many steps without one: arXiv 1710.03740, section 3.2."""
    seen = tf.where_v2(finite, 0.0, float("inf"))

    def adapted(strategy, gradient) -> tf.Operation:
        del strategy
        return loss_scale.update([gradient])[0]

    return tf.distribute.get_replica_context().merge_call(adapted, args=(seen,))


def is_bias(variable: tf.Variable) -> bool:
    """Tell a layer's bias from its kernel."""
    return last_name(variable) == "bias"


def last_name(variable: tf.Variable) -> str:
    """Return `kernel`, `bias`, ...: .op of a mirrored variable is named after its replica."""
    return variable.name.split(":")[0].rpartition("/")[2]
