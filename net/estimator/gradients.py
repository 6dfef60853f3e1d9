"""Gradients of a batch: accumulated over its parts, clipped, and replaced by 0 where one of them is not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from utility.config.settings import ScheduleConfig

GradientsAndVariables = list[tuple[tf.Tensor, tf.Variable]]


def summed_over_parts(compute: Callable[[Any], Any], batch: Any, parts: int) -> Any:
    """Return the sum of `compute` over equal parts of a batch, computed one after the other in the memory of one.

    The first part builds the graph and its variables; a loop computes the others in a second copy of the graph, of
    which only the sums are kept from one part to the next.

    Args:
      compute: from a part to tensors in any structure.
      batch: tensors in any structure, whose first axis is the image.
      parts: their number; divides the images of the batch.
    """
    if parts == 1:
        return compute(batch)

    def part(number) -> Any:
        return tf.nest.map_structure(lambda t: tf.reshape(t, [parts, t.shape[0] // parts, *_sides(t)])[number], batch)

    def next_number(number, sums: Any) -> tf.Tensor:
        with tf.control_dependencies(tf.nest.flatten(sums)):  # the next part starts when this one is finished
            return number + tf.constant(1)

    def add_part(number: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            sums = tf.nest.map_structure(tf.add, sums, compute(part(number)))
        return next_number(number, sums), sums

    first = compute(part(0))
    begin = [next_number(0, first), first]
    return tf.while_loop(lambda number, _: number < parts, add_part, begin, parallel_iterations=1)[1]


def _sides(tensor: tf.Tensor) -> list:
    """Return the sizes of all axes but the first: numbers where the static shape has them, else tensors."""
    static = tensor.shape.as_list()[1:]
    return [tf.shape(tensor)[axis] if size is None else size for axis, size in enumerate(static, start=1)]


class SafeGradients(NamedTuple):
    """Gradients that can be applied whatever happened: all of them are 0 where one of them was not finite."""

    pairs: GradientsAndVariables
    norm: tf.Tensor  # float32 [], of all gradients together; infinite where the run has to stop
    finite: tf.Tensor  # bool [], whether loss and gradients of all replicas were finite


def safe_gradients(
    pairs: Sequence, loss: tf.Tensor, schedule: ScheduleConfig, scale: tf.Tensor | None = None
) -> SafeGradients:
    """Clip gradients, scale those of biases, and replace all by 0 where the loss or one of them is not finite.

    The training log stops the run at an infinite norm. Variables have not changed by then, nor has the checkpoint that
    may be written at the same step. With a loss scale above 1 the overflow may be due to the scale: then the norm is
    given as 0, and the run continues.

    Args:
      pairs: (gradient, variable).
      loss: float32 [].
      schedule: clip_gradient_norm and bias_lr_factor.
      scale: the loss scale that the gradients were computed with, and divided by; None: none.
    """
    # compute_gradients divides the loss by the number of replicas, and apply_gradients adds up their gradients: a
    # replica's norm times their number is near the norm of the sum
    replica = tf.distribute.get_replica_context()
    norm = tf.global_norm([gradient for gradient, _ in pairs]) * replica.num_replicas_in_sync
    # all replicas have to decide alike, or their variables would differ from here on
    failed = tf.cast(tf.logical_not(tf.is_finite([loss, norm])), tf.float32)
    failed = replica.all_reduce(tf.distribute.ReduceOp.SUM, failed)
    loss_is_finite, finite = tf.equal(failed[0], 0.0), tf.equal(tf.reduce_sum(failed), 0.0)
    if schedule.clip_gradient_norm:
        pairs = _clipped(pairs, schedule.clip_gradient_norm)
    overflow = tf.constant(False) if scale is None else tf.logical_and(loss_is_finite, scale > 1.0)
    norm = tf.where_v2(finite, norm, tf.where_v2(overflow, 0.0, float("inf")))
    return SafeGradients([(_or_zeros(g, v, finite, schedule), v) for g, v in pairs], norm, finite)


def _or_zeros(gradient: tf.Tensor, variable: tf.Variable, finite: tf.Tensor, schedule: ScheduleConfig) -> tf.Tensor:
    factor = schedule.bias_lr_factor if is_bias(variable) else 1.0
    # tf.where would copy 26 million numbers a step
    usable = tf.cond(finite, lambda: gradient, lambda: tf.zeros_like(gradient))
    return usable if factor == 1.0 else usable * factor


def _clipped(pairs: Sequence, largest: float) -> GradientsAndVariables:
    """Scale (gradient, variable) pairs so that the norm of all of them together is at most `largest`.

    apply_gradients adds up the gradients of the replicas, so the norm is that of their sum.
    """
    replica = tf.distribute.get_replica_context()
    gradients = [gradient for gradient, _ in pairs]
    if replica.num_replicas_in_sync > 1:
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    scale = largest / tf.maximum(tf.global_norm(gradients), largest)
    return [(gradient * scale, variable) for gradient, variable in pairs]


def is_bias(variable: tf.Variable) -> bool:
    """Tell whether a variable is the bias of a layer."""
    return last_name(variable) == "bias"


def last_name(variable: tf.Variable) -> str:
    """Return `kernel`, `bias`, ...; a mirrored variable's `op` is named after its replica, its `name` is not."""
    return variable.name.split(":")[0].rpartition("/")[2]
