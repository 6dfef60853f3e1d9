"""A warm start: training from the weights of another checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from utility.checkpoints.assignment import (
    MISSING,
    Assignment,
    Scopes,
    assign,
    names_in_checkpoint,
    network_variables,
    once_for_all_replicas,
    scopes_in,
    table,
)
from utility.checkpoints.checkpoint_files import SHOWN, open_checkpoint
from utility.files.text_files import shortened
from utility.run.log import log


class WarmStart(NamedTuple):
    """A checkpoint to start from when the model directory has none.

    `load` is called once the network is built and before the optimizer adds its variables.
    """

    checkpoint: str  # prefix
    scopes: Scopes
    ignore_missing: bool  # variables that the checkpoint lacks keep their random initial values; else an error
    notes: tuple[tuple[str, str], ...] = ()  # (part of a variable's name, what to log if such a variable is loaded)

    def load(self) -> None:
        """Initialize the graph's network from the checkpoint, and log a table of all its variables.

        Raises:
            ValueError: no variable can be loaded; one is missing and `ignore_missing` is off; or the checkpoint is
                damaged.
        """
        once_for_all_replicas(self._load)

    def _load(self) -> None:
        stored = open_checkpoint(self.checkpoint).get_variable_to_shape_map()
        plan = assign(stored, network_variables(), self.scopes)
        log(f"starting from {self.checkpoint}\n{table(plan)}{_unused(self, plan, stored)}")
        for scope in self.scopes.exclude:
            if not any(scope in assignment.name for assignment in plan):
                log(f"  note: --checkpoint_exclude_scopes: no variable has '{scope}' in its name")
        for part, note in self.notes:
            if any(part in assignment.name and assignment.source for assignment in plan):
                log(f"  note: {note}")
        loaded = {assignment.source: assignment.variable for assignment in plan if assignment.source}
        if not loaded:
            raise ValueError(_nothing_fits(self, stored))
        missing = [assignment.name for assignment in plan if assignment.reason == MISSING]
        if missing and not self.ignore_missing:
            raise ValueError(
                f"--checkpoint_path={self.checkpoint} lacks {', '.join(missing[:SHOWN])}"
                f"{', ...' * (len(missing) > SHOWN)}; --ignore_missing_vars leaves them at their random start"
            )
        tf.train.init_from_checkpoint(self.checkpoint, loaded)


def _nothing_fits(start: WarmStart, stored: dict[str, list[int]]) -> str:
    names = shortened(", ".join(sorted(stored)[:3]))
    return (
        f"--checkpoint_path={start.checkpoint}: nothing of it was loaded. Its variables are {names}, ...;"
        f" --checkpoint_model_scope={start.scopes.checkpoint} should be one of its scopes ({scopes_in(stored)}), and"
        " --checkpoint_exclude_scopes must not leave out all"
    )


def _unused(start: WarmStart, plan: Sequence[Assignment], stored: dict[str, list[int]]) -> str:
    """Return lines on the checkpoint's variables that are not used: optimizer slots, the step, and unknown ones."""
    counterparts = {name for assignment in plan for name in names_in_checkpoint(assignment.name, start.scopes)}
    left = sorted(set(stored) - counterparts - {"global_step"})
    slots = [name for name in left if name.rpartition("/")[0] in stored]
    others = [name for name in left if name not in slots]
    lines = []
    if slots or "global_step" in stored:
        lines.append(f"  not taken over: the source's step and {len(slots)} variables of its optimizer")
    if others:
        names = ", ".join(map(shortened, others[:SHOWN])) + ", ..." * (len(others) > SHOWN)
        lines.append(f"  not in the network: {len(others)} of the checkpoint's variables: {names}")
    return "".join(f"\n{line}" for line in lines)
