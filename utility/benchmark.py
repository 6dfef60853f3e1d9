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
from typing import Any

# As a script, sys.path starts with utility/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset import sample
from dataset.conversion.convert import convert
from dataset.records import record_files
from dataset.sources import voc
from dataset.sources.annotations import TRAIN, VALIDATION
from utility.config import checks, memory, presets
from utility.config.settings import LABELS_FILE, Config
from utility.flags import config_flags
from utility.flags import tools as flags
from utility.run import command
from utility.run.layout import RunLayout
from utility.run.log import log
from utility.startup.start import start_tensorflow

FLAGS = flags.FLAGS


def main() -> None:
    """Measure what the flags ask for, and print a table and a line of JSON."""
    config = _config()
    with tempfile.TemporaryDirectory() as folder:
        result = _measure(Path(folder), config)
    who = resource.RUSAGE_CHILDREN if FLAGS.measure == "metric" else resource.RUSAGE_SELF
    result["peak memory of all parts, MB"] = round(resource.getrusage(who).ru_maxrss / 1024)
    width = max(map(len, result))
    log("\n".join(f"{name:<{width}}  {value}" for name, value in result.items()))
    log(json.dumps({"measure": FLAGS.measure, **result, **_machine()}))


def _measure(folder: Path, config: Config) -> dict[str, Any]:
    if FLAGS.measure == "metric":
        from net.benchmark import measure_metric

        return measure_metric(folder, FLAGS.turns)
    start_tensorflow()
    from net import benchmark
    from net.benchmark import Turns
    from net.layers import precision_of

    data_dir = FLAGS.data_dir or _sample_records(folder)
    split = VALIDATION if FLAGS.measure == "eval" else TRAIN
    shards = record_files.find_shards(data_dir, split)
    config = config.replace({"class_names": record_files.class_names(data_dir, None)})
    turns = Turns(FLAGS.batch_size, FLAGS.batches, FLAGS.turns, precision_of(FLAGS.mixed_precision))
    if FLAGS.measure == "input":
        return benchmark.measure_input(shards, config, turns)
    measure = benchmark.measure_train if FLAGS.measure == "train" else benchmark.measure_eval
    return measure(shards, config, turns, FLAGS.data_format, folder)


def _sample_records(folder: Path) -> str:
    """Draw a sample set, convert it, and return the folder of the records."""
    sample.make(folder / "VOC")
    flags_of_voc = {flag.name: flag.default for flag in voc.FLAGS}
    flags_of_voc |= {"dataset_directory": str(folder / "VOC"), "labels_file": str(folder / "VOC" / LABELS_FILE)}
    convert(voc.read_data_set(flags_of_voc, skip_bad_images=False), folder / "tfrecords")
    return str(folder / "tfrecords")


def _config() -> Config:
    """Return the config without the class names; a UserError names a flag that cannot work."""
    config = config_flags.with_flags(presets.preset(FLAGS.preset), config_flags.NETWORK)
    config = checks.check(config.replace({"schedule.batch_size": FLAGS.batch_size}))
    check_memory = memory.check_training if FLAGS.measure == "train" else memory.check_detection
    check_memory(config, FLAGS.batch_size, "take a smaller --batch_size")
    if FLAGS.measure in ("input", "train"):
        RunLayout.of(config)
    if FLAGS.data_dir:
        record_files.find_shards(FLAGS.data_dir, VALIDATION if FLAGS.measure == "eval" else TRAIN)
    return config


def _machine() -> dict[str, Any]:
    start_tensorflow()
    import tensorflow.compat.v1 as tf

    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
        "python": platform.python_version(),
        "tensorflow": metadata.version("tensorflow"),
        "numpy": metadata.version("numpy"),
        "oneDNN": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "batch size": FLAGS.batch_size,
    }


if __name__ == "__main__":
    command.run(main, flags.define_benchmark)
