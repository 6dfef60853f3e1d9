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
from typing import Annotated

from absl import flags
from msgspec import Meta

# As a script, sys.path starts with dataset/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.conversion.convert import convert
from dataset.sources.annotations import TRAIN, VALIDATION
from dataset.sources.formats import FORMATS, read_data_set
from utility.config.settings import Side, ViewConfig
from utility.flags import FLAGS, define_number, type_of
from utility.run import command


def define_flags() -> None:
    """Define the flags; one that several label formats have is the same for all of them."""
    flags.DEFINE_enum("format", next(iter(FORMATS)), [*FORMATS], "what the annotations are")
    flags.DEFINE_string("output_directory", "./dataset/tfrecords", "folder for the records")
    for flag in {flag.name: flag for source in FORMATS.values() for flag in source.FLAGS}.values():
        (flags.DEFINE_list if flag.is_list else flags.DEFINE_string)(flag.name, flag.default, flag.text)
    part = "part of the training pictures to take for validation, where these are the only ones; the same each time"
    define_number("validation_fraction", Annotated[float, Meta(gt=0, lt=1)], None, part)
    shards = Annotated[int, Meta(ge=1, le=99999)]  # a shard's name has five digits
    define_number("train_shards", shards, 16, "number of training record files")
    define_number("validation_shards", shards, 16, "number of validation record files")
    define_number("num_threads", Annotated[int, Meta(ge=1, le=1024)], 8, "threads that read and check pictures")
    reduced = "pixels to which the longer side of larger pictures is reduced, also in use"
    define_number("max_side", Side, 640, reduced)
    define_number("tile_size", Side, None, "side in pixels of tiles that pictures are cut into, also in use")
    shared = "least part of a tile's side that its neighbour shares"
    define_number("tile_overlap", type_of("views.tile_overlap"), ViewConfig.tile_overlap, shared)
    flags.DEFINE_boolean("strict", False, "take a bad annotation as an error instead of correcting or dropping it")
    flags.DEFINE_boolean("skip_bad_images", False, "leave out pictures that cannot be read, instead of stopping")
    flags.register_validator("format", _has_its_flags)


def _has_its_flags(chosen: str) -> bool:
    own = {flag.name for flag in FORMATS[chosen].FLAGS}
    for name, source in FORMATS.items():
        foreign = [flag.name for flag in source.FLAGS if flag.name not in own and FLAGS[flag.name].present]
        if foreign:
            raise flags.ValidationError(f"--{foreign[0]} is for --format={name}; leave one of the two out")
    for flag in FORMATS[chosen].FLAGS:
        if flag.must_be and not FLAGS[flag.name].value:
            raise flags.ValidationError(f"--{flag.name} is missing: give {flag.must_be}")
    return True


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
        views=ViewConfig(FLAGS.max_side, FLAGS.tile_size, FLAGS.tile_overlap),
    )


if __name__ == "__main__":
    command.run(main, define_flags)
