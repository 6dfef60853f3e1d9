"""Draw the course of trainings as one picture: loss with its parts, accuracy, learning rate, mAP.

    python utility/draw_curves.py --model_dir=logs
    python utility/draw_curves.py --model_dir=logs --model_dir=other --output=curves.png

Reads TensorBoard's event files and evaluations.json. Training itself draws {model_dir}/curves.png at each evaluation
and at its end.
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
    flags.DEFINE_multi_string("model_dir", ["./logs"], "folder of a training; several times for several trainings")
    where = "PNG to write; default: curves.png in the folder of a single training, else in the folder here"
    flags.DEFINE_string("output", None, where)


def main() -> None:
    """Read the flags and draw."""
    start_tensorflow()
    from net import curves

    folders = FLAGS.model_dir
    output = FLAGS.output or Path(folders[0] if len(folders) == 1 else ".", curves.PICTURE)
    curves.draw(folders, output)
    log(f"drawn: {output}")


if __name__ == "__main__":
    command.run(main, define_flags)
