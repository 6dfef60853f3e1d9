"""Convert labelled pictures, by VOC, COCO or YOLO, to TFRecord shards, labels.txt and dataset.json.

    python dataset/convert_tfrecords.py --dataset_directory=VOCROOT --output_directory=./dataset/tfrecords
    python dataset/convert_tfrecords.py --format=coco --annotations=instances.json --images=FOLDER

VOCROOT holds VOC2007, VOC2012, VOC2007TEST or other folders, each with Annotations, ImageSets/Main and
JPEGImages. Bad boxes are clipped or dropped and listed; files get their final names when all are written.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, sys.path starts with dataset/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.conversion.convert import convert
from dataset.sources.formats import FORMATS
from utility.flags import data as flags
from utility.run import command

FLAGS = flags.FLAGS


def main() -> None:
    """Convert the data set that the flags name."""
    source = FORMATS[FLAGS.format]
    convert(
        source.read({flag.name: FLAGS[flag.name].value for flag in source.FLAGS}, FLAGS.skip_bad_images),
        FLAGS.output_directory,
        train_shards=FLAGS.train_shards,
        validation_shards=FLAGS.validation_shards,
        num_threads=FLAGS.num_threads,
        strict=FLAGS.strict,
        skip_bad_images=FLAGS.skip_bad_images,
    )


if __name__ == "__main__":
    command.run(main, lambda: flags.define_convert({name: source.FLAGS for name, source in FORMATS.items()}))
