"""Time the parts of the project against what they cannot beat, in one run each.

    python utility/benchmark.py --measure=input     training input against raw JPEG decoding of the same records
    python utility/benchmark.py --measure=train     training steps against the bare network, forward and backward
    python utility/benchmark.py --measure=eval      evaluation against the bare forward pass; post-processing
    python utility/benchmark.py --measure=metric    voc_eval.py on generated detections

Runs on the records in --data_dir, or on a sample set that it makes. The parts take turns, and the medians of
several turns are compared, so that what else the machine does harms all alike. Prints a table, then JSON.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from absl import flags
from msgspec import Meta

# As a script, sys.path starts with utility/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset import sample
from dataset.conversion.convert import convert
from dataset.records import record_files
from dataset.sources import voc
from dataset.sources.annotations import TRAIN, VALIDATION
from utility.config.settings import LABELS_FILE, Config, Count
from utility.flags import BACKBONE, FLAGS, asked_config, define_computation, define_number, define_preset
from utility.run import command
from utility.run.layout import RunLayout
from utility.run.log import log
from utility.startup.start import start_tensorflow


def define_flags() -> None:
    """Define the flags."""
    flags.DEFINE_enum("measure", "input", ["input", "train", "eval", "metric"], "what to time")
    flags.DEFINE_string("data_dir", None, "folder with the records; default: a sample set made for the run")
    define_preset(BACKBONE)
    define_number("batch_size", Count, 8, "images a batch")
    times = Annotated[int, Meta(ge=1, le=10**6)]
    define_number("batches", times, 10, "batches of a turn")
    define_number("turns", times, 5, "turns that each part takes; their median counts")
    define_computation()


def main() -> None:
    """Measure what the flags ask for, and print a table and a line of JSON."""
    config = asked_config((), BACKBONE).replace({"schedule.batch_size": FLAGS.batch_size})
    if FLAGS.measure in ("input", "train"):
        RunLayout.of(config)  # a batch that cannot be shared out is said at once
    split = VALIDATION if FLAGS.measure == "eval" else TRAIN
    if FLAGS.data_dir:
        record_files.find_shards(FLAGS.data_dir, split)
    with tempfile.TemporaryDirectory() as folder:
        if FLAGS.measure == "metric":
            from dataset.metric_benchmark import measure_metric

            result = measure_metric(Path(folder), FLAGS.turns)
        else:
            result = _measure(FLAGS.data_dir or _sample_records(Path(folder)), split, config)
    who = resource.RUSAGE_CHILDREN if FLAGS.measure == "metric" else resource.RUSAGE_SELF
    result["peak memory of all parts, MB"] = round(resource.getrusage(who).ru_maxrss / 1024)
    width = max(map(len, result))
    log("\n".join(f"{name:<{width}}  {value}" for name, value in result.items()))
    start_tensorflow()
    import tensorflow.compat.v1 as tf

    machine = {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
        "python": platform.python_version(),
        "tensorflow": metadata.version("tensorflow"),
        "numpy": metadata.version("numpy"),
        "oneDNN": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "batch size": FLAGS.batch_size,
    }
    log(json.dumps({"measure": FLAGS.measure, **result, **machine}))


def _measure(data_dir: str, split: str, config: Config) -> dict[str, Any]:
    start_tensorflow()
    from net import benchmark
    from net.devices import default_data_format, precision_of

    config = config.replace({"class_names": record_files.class_names(data_dir, None)})
    data_format = FLAGS.data_format or default_data_format()
    precision = precision_of(FLAGS.mixed_precision)
    turns = benchmark.Turns(FLAGS.batch_size, FLAGS.batches, FLAGS.turns, precision, data_format)
    measures = {"input": benchmark.measure_input, "train": benchmark.measure_train, "eval": benchmark.measure_eval}
    return measures[FLAGS.measure](record_files.find_shards(data_dir, split), config, turns)


def _sample_records(folder: Path) -> str:
    """Draw a sample set, convert it, and return the folder of the records."""
    sample.make(folder / "VOC")
    flags_of_voc = {flag.name: flag.default for flag in voc.FLAGS}
    flags_of_voc |= {"dataset_directory": str(folder / "VOC"), "labels_file": str(folder / "VOC" / LABELS_FILE)}
    convert(voc.read_data_set(flags_of_voc, skip_bad_images=False), folder / "tfrecords")
    return str(folder / "tfrecords")


if __name__ == "__main__":
    command.run(main, define_flags)
