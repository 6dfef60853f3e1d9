"""Draw a small labelled sample set in VOC layout, for a machine without a real data set.

    python dataset/make_sample_voc.py --output_directory=./quickstart/VOC

It has five classes, with objects of all sizes in front of clutter, some of them hidden or cut off.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from absl import flags
from msgspec import Meta

# As a script, sys.path starts with dataset/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.sample import make
from utility.config.settings import CountOr0
from utility.flags import FLAGS, define_number
from utility.run import command


def define_flags() -> None:
    """Define the flags."""
    pictures = Annotated[int, Meta(ge=1, le=99999)]  # an image id has five digits after the split's
    flags.DEFINE_string("output_directory", "./quickstart/VOC", "folder for the sample set")
    define_number("num_train", pictures, 200, "training pictures")
    define_number("num_test", pictures, 50, "test pictures")
    define_number("seed", CountOr0, 0, "another seed draws other pictures")


def main() -> None:
    """Draw the sample set that the flags describe."""
    make(FLAGS.output_directory, num_train=FLAGS.num_train, num_test=FLAGS.num_test, seed=FLAGS.seed)


if __name__ == "__main__":
    command.run(main, define_flags)
