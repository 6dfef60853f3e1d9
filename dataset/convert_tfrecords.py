"""Convert labelled pictures, by VOC, COCO or YOLO, to TFRecord shards, labels.txt and dataset.json.

    python dataset/convert_tfrecords.py --dataset_directory=VOCROOT --output_directory=./dataset/tfrecords
    python dataset/convert_tfrecords.py --dataset_directory=FOLDER --labels_file=auto --validation_fraction=0.2
    python dataset/convert_tfrecords.py --format=coco --annotations=instances.json --images=FOLDER
    python dataset/convert_tfrecords.py --format=yolo --dataset_directory=FOLDER

VOCROOT holds VOC2007, VOC2012, VOC2007TEST or other folders, each with Annotations, ImageSets/Main and
JPEGImages; a FOLDER has pictures and their labels. Bad boxes are clipped or dropped and listed; files get their final
names when all are written.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As a script, sys.path starts with dataset/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.conversion.convert import convert
from dataset.sources.annotations import TRAIN, VALIDATION
from dataset.sources.formats import FORMATS, read_data_set
from utility.flags import data as flags
from utility.run import command

FLAGS = flags.FLAGS


def main() -> None:
    """Convert the data set that the flags name."""
    data = read_data_set(
        FLAGS.format,
        {flag.name: FLAGS[flag.name].value for flag in FORMATS[FLAGS.format].FLAGS},
        skip_bad_images=FLAGS.skip_bad_images,
        validation_fraction=FLAGS.validation_fraction,
    )
    convert(
        data,
        FLAGS.output_directory,
        shards={TRAIN: FLAGS.train_shards, VALIDATION: FLAGS.validation_shards},
        num_threads=FLAGS.num_threads,
        strict=FLAGS.strict,
        skip_bad_images=FLAGS.skip_bad_images,
        views=flags.views(),
    )


if __name__ == "__main__":
    command.run(main, lambda: flags.define_convert({name: source.FLAGS for name, source in FORMATS.items()}))
