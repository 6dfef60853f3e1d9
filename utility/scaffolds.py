"""Checkpoints: finding one, mapping its names to the network's, starting from it, and saying what was loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from utility.runtime import log


def resolve(path: str) -> str:
    """Return the prefix of the checkpoint at `path`: a folder (its newest), a prefix, or one of its files.

    Raises:
        FileNotFoundError: there is no checkpoint; the message tells what is there instead.
    """
    if Path(path).is_dir():
        newest = tf.train.latest_checkpoint(path)
        if newest:
            return newest
        alone = sorted(Path(path).glob("*.index"))
        if len(alone) == 1:  # put there by hand, without the `checkpoint` file that names the newest
            return str(alone[0].with_suffix(""))
        raise FileNotFoundError(f"{path} has no checkpoint{_instead(Path(path), alone)}")
    prefix = path.removesuffix(".index").removesuffix(".meta").split(".data-")[0]
    if tf.train.checkpoint_exists(prefix):
        return prefix
    raise FileNotFoundError(f"there is no checkpoint {path}{_instead(Path(path).parent, [])}")


def _instead(folder: Path, checkpoints: Sequence[Path]) -> str:
    if checkpoints:
        return f", but {len(checkpoints)}: name one, such as {checkpoints[0].with_suffix('')}"
    if not folder.is_dir():
        return f": the folder {folder} does not exist"
    names = sorted(entry.name for entry in folder.iterdir())[:8]
    return f"; {folder} holds {', '.join(names)}" if names else f"; {folder} is empty"


class WarmStart(NamedTuple):
    """Where training starts from when the model directory has no checkpoint of its own."""

    checkpoint: str  # prefix
    checkpoint_scope: str  # of the variables in it
    model_scope: str  # of the network's
    exclude_scopes: tuple[str, ...]  # of the network, left at their random start
    ignore_missing: bool  # variables that the checkpoint lacks likewise; else they are an error

    def load(self) -> None:
        """Make the graph's trainable variables start from the checkpoint; ValueError if none can."""
        plan = plan_warm_start(self, _shapes_of(self.checkpoint), tf.trainable_variables())
        log(_told(plan, self.checkpoint))
        if not plan.assignments:
            raise ValueError(
                f"--checkpoint_path={self.checkpoint}: none of its variables fits: it has"
                f" {', '.join(sorted(_shapes_of(self.checkpoint))[:3])}, ...; see --checkpoint_model_scope"
            )
        if plan.missing and not self.ignore_missing:
            raise ValueError(
                f"--checkpoint_path={self.checkpoint}: lacks {', '.join(plan.missing)}; --ignore_missing_vars"
                " leaves them at their random start"
            )
        tf.train.init_from_checkpoint(self.checkpoint, plan.assignments)


class Plan(NamedTuple):
    """What a warm start will do with each variable of the network, by its name."""

    assignments: dict[str, tf.Variable]  # name in the checkpoint -> variable
    excluded: list[str]
    missing: list[str]
    reshaped: list[str]  # of another shape than in the checkpoint, with both


def plan_warm_start(start: WarmStart, stored: dict[str, list[int]], variables: Iterable[tf.Variable]) -> Plan:
    """Sort the network's variables by whether `stored` (name -> shape, of a checkpoint) can fill them."""
    plan = Plan({}, [], [], [])
    for variable in variables:
        name = variable.op.name
        source = next((n for n in _names_in_checkpoint(name, start) if n in stored), None)
        if any(name == scope or name.startswith(f"{scope}/") for scope in start.exclude_scopes):
            plan.excluded.append(name)
        elif source is None:
            plan.missing.append(name)
        elif stored[source] != variable.shape.as_list():
            plan.reshaped.append(f"{name} {variable.shape.as_list()}, there {stored[source]}")
        else:
            plan.assignments[source] = variable
    return plan


def _names_in_checkpoint(name: str, start: WarmStart) -> tuple[str, str]:
    """Return the names a variable may have there: as in Keras' layers, and as in TF-slim's and the reference's VGG."""
    moved = name.replace(start.model_scope, start.checkpoint_scope, 1)
    slim = moved.removesuffix("/kernel") + "/weights" if moved.endswith("/kernel") else moved
    slim = slim.removesuffix("/bias") + "/biases" if slim.endswith("/bias") else slim
    return moved, slim


def _shapes_of(checkpoint: str) -> dict[str, list[int]]:
    return tf.train.load_checkpoint(checkpoint).get_variable_to_shape_map()


def _told(plan: Plan, checkpoint: str) -> str:
    lines = [f"starting from {checkpoint}: {len(plan.assignments)} variables loaded"]
    for names, reason in (
        (plan.excluded, "left out by --checkpoint_exclude_scopes"),
        (plan.missing, "not in the checkpoint"),
        (plan.reshaped, "of another shape there"),
    ):
        if names:
            lines.append(
                f"  {len(names)} start at random, {reason}: {', '.join(names[:4])}{', ...' * (len(names) > 4)}"
            )
    return "\n".join(lines)


def starting_point(path: str, *, optional: bool, **settings: Any) -> WarmStart | None:
    """Return the WarmStart from the checkpoint at `path`, or None where there is none and it is optional."""
    try:
        return WarmStart(resolve(path), **settings)
    except FileNotFoundError:
        if optional:
            return None
        raise
