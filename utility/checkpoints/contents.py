"""A checkpoint's variables as a table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from utility.checkpoints import checkpoint_files
from utility.files.text_files import one_line

# What TensorFlow's optimizers append to a variable's name.
_SLOTS = re.compile(r".+/(Momentum|Adam(_1)?|RMSProp(_1)?|Adagrad|ExponentialMovingAverage)")


class Variable(NamedTuple):
    """A variable of a checkpoint, how many numbers it holds, and their bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    numbers: int
    bytes: int


def describe_checkpoint(path: str, *, slots: bool) -> str:
    """Return the prefix of the checkpoint at a path, and the table of its variables; see `describe`."""
    prefix = checkpoint_files.resolve(path)
    reader = checkpoint_files.open_checkpoint(prefix)
    variables = variables_of(reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map())
    step = checkpoint_files.stored_step(reader)
    return f"{prefix}\n{describe(variables, step, slots=slots)}"


def variables_of(shapes: Mapping[str, Sequence[int]], dtypes: Mapping) -> list[Variable]:
    """Return the variables of a checkpoint reader's two maps in the order in which people count: conv9, conv10."""
    variables = []
    for name, shape in shapes.items():
        numbers = math.prod(shape)
        variables.append(
            Variable(one_line(name), tuple(shape), dtypes[name].name, numbers, numbers * dtypes[name].size)
        )
    return sorted(variables, key=lambda variable: _natural(variable.name))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def describe(variables: Sequence[Variable], step: int | None, *, slots: bool) -> str:
    """Return the table of variables, the sums, and the step; the optimizer's variables only if `slots`."""
    of_optimizer = [variable for variable in variables if _SLOTS.fullmatch(variable.name)]
    listed = [variable for variable in variables if slots or variable not in of_optimizer]
    width = max((len(variable.name) for variable in listed), default=0)
    lines = [
        f"  {v.name:{width}}  {v.dtype:8} {'x'.join(map(str, v.shape)) or 'scalar':>16} {_bytes(v.bytes):>10}"
        for v in listed
    ]
    network = [
        variable for variable in variables if variable not in of_optimizer and variable.name != checkpoint_files.STEP
    ]
    lines.append(_sum(network, "variable"))
    if of_optimizer:
        lines.append(_sum(of_optimizer, "optimizer's variable") + ("" if slots else "; --slots lists them"))
    lines.append("no global step" if step is None else f"global step {step}")
    return "\n".join(lines)


def _sum(variables: Sequence[Variable], what: str) -> str:
    count, numbers = len(variables), sum(v.numbers for v in variables)
    return f"{count} {what}{'s' * (count != 1)}, {numbers:,} numbers, {_bytes(sum(v.bytes for v in variables))}"


def _bytes(size: int) -> str:
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"
