"""Show what the records of a data set hold, which objects SSD will hardly find, and which flags help.

    python dataset/dataset_inspect.py --data_dir=./dataset/tfrecords --split=train --output=drawn
    python dataset/dataset_inspect.py --data_dir=./dataset/tfrecords --preset=ssd512_voc --backbone=mobilenet_v1

--output is a folder for the first pictures, drawn with their boxes; the other flags are those of train_ssd.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

# As a script, sys.path starts with dataset/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.records import record_files
from utility.config.settings import LABELS_FILE, Count
from utility.flags import FLAGS, NETWORK, asked_config, define_number, define_preset
from utility.run import command
from utility.run.log import log
from utility.startup.start import start_tensorflow


def define_flags() -> None:
    """Define the flags."""
    define_preset(NETWORK)
    flags.DEFINE_string("data_dir", "./dataset/tfrecords", "folder with the records")
    flags.DEFINE_enum("split", "train", ["train", "val"], "which records")
    flags.DEFINE_string("output", None, "folder for pictures with their boxes drawn")
    define_number("count", Count, 16, "how many pictures to draw")


def main() -> None:
    """Log the counts and what helps to find the objects, and draw the first pictures if --output is set."""
    shards = record_files.find_shards(FLAGS.data_dir, FLAGS.split)
    class_names = record_files.class_names(FLAGS.data_dir, None)
    if not Path(FLAGS.data_dir, LABELS_FILE).is_file():
        log(f"no {LABELS_FILE} in {FLAGS.data_dir}: the classes are taken to be VOC's")
    config = asked_config(class_names, NETWORK)
    start_tensorflow()
    from dataset.contents import described, draw_example
    from dataset.records.parsing import read_examples
    from net import advice
    from net.coverage import objects_of

    examples = []
    for number, example in enumerate(read_examples(shards)):
        if FLAGS.output and number < FLAGS.count:
            draw_example(example, class_names, Path(FLAGS.output), record_files.pixel_extent(FLAGS.data_dir))
        examples.append({name: value for name, value in example.items() if name != "image_encoded"})
    objects = objects_of(examples, config.targets.use_difficult)
    for line in (*described(examples, class_names), *advice.report(objects, config, class_names)):
        log(line)
    if FLAGS.output:
        log(f"drew {min(FLAGS.count, len(examples))} pictures into {FLAGS.output}")


if __name__ == "__main__":
    command.run(main, define_flags)
