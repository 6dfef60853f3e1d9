"""Gradient accumulation: a batch is computed in equal parts, one after the other, in the memory of one part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf


def in_parts(compute: Callable[..., tuple[Any, list]], parts: int) -> Callable[..., tuple[Any, list]]:
    """Return `compute` for a whole batch, from one for a part of it.

    The first part builds the graph and its variables; a loop computes the others in a second copy of the graph, of
    which only the sums are kept from one part to the next.

    Args:
      compute: a function of tensors, in any structure, whose first axis is the image; it returns losses, scalars in any
        structure, and a list of (gradient, variable).
      parts: their number; divides the images of the batch.

    Returns:
      A function of the whole batch that returns the sums over its parts, in the structure of `compute`.
    """

    def of_batch(*batch: Any) -> tuple[Any, list]:
        def part(number: tf.Tensor | int) -> Any:
            return tf.nest.map_structure(
                lambda t: tf.reshape(t, [parts, t.shape[0] // parts, *_sides_after_first(t)])[number], batch
            )

        losses, pairs = compute(*part(0))
        variables = [variable for _, variable in pairs]
        first = losses, [gradient for gradient, _ in pairs]

        def next_number(number: tf.Tensor | int, sums: Any) -> tf.Tensor:
            with tf.control_dependencies(tf.nest.flatten(sums)):  # the next part starts when this one is finished
                return number + tf.constant(1)

        def add_part(number: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
            with tf.variable_scope(tf.get_variable_scope(), reuse=True):
                losses, pairs = compute(*part(number))
            sums = tf.nest.map_structure(tf.add, sums, (losses, [gradient for gradient, _ in pairs]))
            return next_number(number, sums), sums

        begin = [next_number(0, first), first]
        _, sums = tf.while_loop(lambda number, _: number < parts, add_part, begin, parallel_iterations=1)
        losses, gradients = sums
        return losses, list(zip(gradients, variables, strict=True))

    return of_batch


def _sides_after_first(tensor: tf.Tensor) -> list:
    """Return the sizes of all axes but the first: numbers where the static shape has them, else tensors."""
    static = tensor.shape.as_list()[1:]
    return [tf.shape(tensor)[axis] if size is None else size for axis, size in enumerate(static, start=1)]
