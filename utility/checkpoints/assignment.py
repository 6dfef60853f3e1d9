"""Which variable of a checkpoint fills which variable of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from utility.checkpoints.checkpoint_files import open_checkpoint
from utility.files.text_files import shortened

MISSING = "no counterpart in the checkpoint"


class Assignment(NamedTuple):
    """What happens to one variable of the network when it is initialized from a checkpoint."""

    name: str
    variable: tf.Variable
    source: str | None  # its name in the checkpoint; None: it keeps its random initial value
    reason: str = ""  # why it does


class Scopes(NamedTuple):
    """How names of the network's variables become names in a checkpoint, and which variables are not looked up."""

    checkpoint: str = ""  # scope of the variables in the checkpoint; "" if they have none
    model: str = ""  # of the network's; it is replaced by the other
    exclude: tuple[str, ...] = ()  # a variable with one of these in its name keeps its random initial value


def assign(
    stored: dict[str, list[int]],
    variables: Iterable[tf.Variable],
    scopes: Scopes = Scopes(),  # noqa: B008 (immutable)
) -> list[Assignment]:
    """Find for each of the network's variables the one in a checkpoint that fills it.

    Args:
      stored: name -> shape of the checkpoint's variables.
      variables: of the network.
      scopes: how their names translate.
    """
    plan = []
    for variable in variables:
        name = variable.op.name
        source = next((n for n in names_in_checkpoint(name, scopes) if n in stored), None)
        excluded = next((scope for scope in scopes.exclude if scope in name), None)
        if excluded:
            plan.append(Assignment(name, variable, None, f"excluded by --checkpoint_exclude_scopes={excluded}"))
        elif source is None:
            plan.append(Assignment(name, variable, None, MISSING))
        elif stored[source] != variable.shape.as_list():
            shapes = f"shape {_shape(variable.shape.as_list())}, in the checkpoint {_shape(stored[source])}"
            plan.append(Assignment(name, variable, None, shapes))
        else:
            plan.append(Assignment(name, variable, source))
    return plan


def names_in_checkpoint(name: str, scopes: Scopes) -> tuple[str, str]:
    """Return the names a variable may have there: as in tf.layers, and as in TF-slim's and the reference's VGG."""
    translated = name
    if name.startswith(f"{scopes.model}/"):
        translated = f"{scopes.checkpoint}/{name.removeprefix(f'{scopes.model}/')}".lstrip("/")
    for ending, slim in (("/kernel", "/weights"), ("/bias", "/biases")):
        if translated.endswith(ending):
            return translated, translated.removesuffix(ending) + slim
    return translated, translated


def network_variables() -> list[tf.Variable]:
    """Return the graph's variables that belong to the network: trainable ones, and batch norm's moving averages."""
    return tf.trainable_variables() + tf.moving_average_variables()


def once_for_all_replicas(load: Callable[[], None]) -> None:
    """Call `load` once where several replicas build the network: in the cross-replica context, with their variables."""
    replica = tf.distribute.get_replica_context()
    if replica is None:
        load()
    else:
        replica.merge_call(lambda strategy: load())


def scopes_in(stored: Iterable[str]) -> str:
    """Return the outermost scopes of some variables, for a message."""
    return shortened(", ".join(sorted({name.split("/")[0] for name in stored if "/" in name}))) or "none"


def check_fits(checkpoint: str) -> list[Assignment]:
    """Return the assignment of a checkpoint to the graph's network.

    A ValueError if a variable of the network is missing in it or has another shape.
    """
    stored = open_checkpoint(checkpoint).get_variable_to_shape_map()
    plan = assign(stored, network_variables())
    unfilled = unassigned(plan)
    if unfilled:
        remedy = "config.json and labels.txt must be the checkpoint's own, and lie beside it"
        if all(assignment.reason == MISSING for assignment in plan):
            remedy = f"--model_scope must be the scope of its network, one of {scopes_in(stored)}"
        raise ValueError(
            f"checkpoint {checkpoint} is of another network: {unfilled[0].name} has {unfilled[0].reason}"
            f" ({len(unfilled)} of {len(plan)} variables differ); {remedy}"
        )
    return plan


def unassigned(plan: Sequence[Assignment]) -> list[Assignment]:
    """Return the assignments without a source."""
    return [assignment for assignment in plan if not assignment.source]


def table(plan: Sequence[Assignment]) -> str:
    """Return a table with a line for the variables of a layer that have the same source or reason, and a summary."""
    lines = [
        (layer, " ".join(assignment.name.rpartition("/")[2] for assignment in assignments), what)
        for (layer, what), assignments in _by_layer(plan)
    ]
    widths = [max((len(line[column]) for line in lines), default=0) for column in (0, 1)]
    rows = [f"  {layer:{widths[0]}}  {names:{widths[1]}}  {what}" for layer, names, what in lines]
    loaded = sum(assignment.source is not None for assignment in plan)
    at_random = f", {len(plan) - loaded} start at random" if loaded < len(plan) else ""
    return "\n".join([*rows, f"  {loaded} of {len(plan)} variables loaded{at_random}"])


def _by_layer(plan: Sequence[Assignment]) -> list[tuple[tuple[str, str], list[Assignment]]]:
    def key(assignment: Assignment) -> tuple[str, str]:
        if assignment.source is None:
            return assignment.name.rpartition("/")[0], f"random: {assignment.reason}"
        return assignment.name.rpartition("/")[0], f"from {assignment.source.rpartition('/')[0]}"

    return [(layer, list(assignments)) for layer, assignments in groupby(plan, key)]


def _shape(shape: Sequence[int]) -> str:
    return shortened("x".join(map(str, shape))) or "scalar"
