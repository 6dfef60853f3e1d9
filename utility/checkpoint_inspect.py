"""List a checkpoint's variables with their shapes, types and sizes, and its global step.

    python utility/checkpoint_inspect.py --checkpoint_path=logs

Reads everything that TensorFlow wrote, this project's own checkpoints and the reference's alike.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import numpy as np
from absl import flags

# As a script, sys.path starts with utility/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utility.files.text_files import one_line
from utility.flags import FLAGS
from utility.run import command
from utility.run.log import log
from utility.startup.start import start_tensorflow

# What TensorFlow's optimizers append to a variable's name.
_SLOTS = re.compile(r".+/(Momentum|Adam(_1)?|RMSProp(_1)?|Adagrad|ExponentialMovingAverage)")


def define_flags() -> None:
    """Define the flags."""
    flags.DEFINE_string("checkpoint_path", "./logs", "a checkpoint or its folder")
    flags.DEFINE_boolean("slots", False, "list the optimizer's variables too")


def main() -> None:
    """Read the flags and print the table."""
    start_tensorflow()
    from utility.checkpoints import checkpoint_files

    prefix = checkpoint_files.resolve(FLAGS.checkpoint_path)
    reader = checkpoint_files.open_checkpoint(prefix)
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    names = sorted(shapes, key=lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(9), name))  # 9 before 10
    of_optimizer = [name for name in names if _SLOTS.fullmatch(name)]
    network = [name for name in names if name not in of_optimizer and name != checkpoint_files.STEP]
    listed = [name for name in names if FLAGS.slots or name not in of_optimizer]
    width = max((len(one_line(name)) for name in listed), default=0)
    numbers = {name: math.prod(shape) for name, shape in shapes.items()}
    sizes = {name: count * dtypes[name].size for name, count in numbers.items()}
    log(prefix)
    for name in listed:
        shape = "x".join(map(str, shapes[name])) or "scalar"
        log(f"  {one_line(name):{width}}  {dtypes[name].name:8} {shape:>16} {_bytes(sizes[name]):>10}")
    for of, what in ((network, "variable"), (of_optimizer, "optimizer's variable")):
        if of or what == "variable":
            total, size = sum(numbers[name] for name in of), _bytes(sum(sizes[name] for name in of))
            more = "; --slots lists them" if of is of_optimizer and not FLAGS.slots else ""
            log(f"{len(of)} {what}{'s' * (len(of) != 1)}, {total:,} numbers, {size}{more}")
    step = _step(reader, checkpoint_files.STEP)
    log("no global step" if step is None else f"global step {step}")


def _bytes(size: int) -> str:
    return f"{size} B" if size < 1000 else f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


def _step(reader, name: str) -> int | None:
    """Return the global step, None if there is none that is one whole number, of whatever type and shape."""
    step = np.asarray(reader.get_tensor(name) if reader.has_tensor(name) else [])
    whole = step.size == 1 and step.dtype.kind in "iuf" and float(step.item()).is_integer()
    return int(step.item()) if whole else None


if __name__ == "__main__":
    command.run(main, define_flags)
