"""List a checkpoint's variables with their shapes, types and sizes, and its global step.

    python utility/checkpoint_inspect.py --checkpoint_path=logs

Reads everything that TensorFlow wrote, this project's own checkpoints and the reference's alike.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

# As a script, sys.path starts with utility/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utility.flags import FLAGS
from utility.run import command
from utility.run.log import log
from utility.startup.start import start_tensorflow


def define_flags() -> None:
    """Define the flags."""
    flags.DEFINE_string("checkpoint_path", "./logs", "a checkpoint or its folder")
    flags.DEFINE_boolean("slots", False, "list the optimizer's variables too")


def main() -> None:
    """Read the flags and print the table."""
    start_tensorflow()
    from utility.checkpoints.contents import describe_checkpoint

    log(describe_checkpoint(FLAGS.checkpoint_path, slots=FLAGS.slots))


if __name__ == "__main__":
    command.run(main, define_flags)
