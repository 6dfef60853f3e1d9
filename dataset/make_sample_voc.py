"""Draw a small labelled sample set in VOC layout, for a machine without a real data set.

    python dataset/make_sample_voc.py --output_directory=./quickstart/VOC

It has five classes, with objects of all sizes in front of clutter, some of them hidden or cut off.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, sys.path starts with dataset/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.sample import make
from utility.flags import data as flags
from utility.run import command

FLAGS = flags.FLAGS


def main() -> None:
    """Draw the sample set that the flags describe."""
    make(FLAGS.output_directory, num_train=FLAGS.num_train, num_test=FLAGS.num_test, seed=FLAGS.seed)


if __name__ == "__main__":
    command.run(main, flags.define_sample)
