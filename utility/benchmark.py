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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

# Run as a script, the path starts with utility/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from dataset import labels, voc
from utility import config as config_lib
from utility import flags, presets, runtime

FLAGS = flags.FLAGS

_FETCHED_AHEAD = 3  # batches of input that are made while another part runs
_TEST_IMAGES, _TEST_DETECTIONS = 4952, 500_000  # VOC2007's test set


def main() -> None:
    """Measure what the flags ask for."""
    measures = {"input": measure_input, "train": measure_train, "eval": measure_eval, "metric": measure_metric}
    with tempfile.TemporaryDirectory() as folder:
        result = measures[FLAGS.measure](Path(folder))
    who = resource.RUSAGE_CHILDREN if FLAGS.measure == "metric" else resource.RUSAGE_SELF
    result["peak memory of all parts, MB"] = round(resource.getrusage(who).ru_maxrss / 1024)
    width = max(map(len, result))
    runtime.log("\n".join(f"{name:<{width}}  {value}" for name, value in result.items()))
    runtime.log(json.dumps({"measure": FLAGS.measure, **result, **_machine()}))


def measure_input(folder: Path) -> dict[str, Any]:
    """Compare train_ssd.py's input with decoding the same JPEGs and doing nothing else."""
    shards, config = _prepare(folder, "train")
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    from dataset import records  # noqa: PLC0415

    def raw() -> tf.data.Dataset:
        dataset = tf.data.TFRecordDataset(shards).repeat()
        decoded = dataset.map(
            lambda record: tf.io.decode_jpeg(records.parse(record)["image_encoded"], channels=3)[0, 0, 0],
            num_parallel_calls=24,
        )
        return decoded.batch(FLAGS.batch_size).prefetch(2)

    seconds = _take_turns(
        {
            "input": lambda: tf.group(*tf.nest.flatten(_next_of(_training_input(shards, config)))),
            "raw": lambda: _next_of(raw).op,
        },
        warm_up=_FETCHED_AHEAD,
    )
    return {
        "training input, images/s": round(1 / seconds["input"], 1),
        "raw JPEG decoding, images/s": round(1 / seconds["raw"], 1),
        "input / raw decoding": round(seconds["raw"] / seconds["input"], 3),
    }


def measure_train(folder: Path) -> dict[str, Any]:
    """Compare train_ssd.py's step, input and all, with the network's forward and backward pass alone."""
    shards, config = _prepare(folder, "train")
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    from net import estimator, ssd_model_fn  # noqa: PLC0415

    def step() -> tf.Operation:
        features, targets = _next_of(_training_input(shards, config))
        run = tf.estimator.RunConfig(str(folder))
        params = estimator.build(config, run, FLAGS.data_format, log_every_n_steps=10).params
        return ssd_model_fn.ssd_model_fn(features, targets, tf.estimator.ModeKeys.TRAIN, params).train_op

    def bare() -> tf.Tensor:
        output = _bare_network(config, training=True)
        loss = tf.reduce_mean(output.offsets) + tf.reduce_mean(output.logits)
        gradients = tf.gradients(loss, tf.trainable_variables())
        return tf.add_n([tf.reduce_max(gradient) for gradient in gradients])

    seconds = _take_turns({"step": step, "bare": bare})
    return {
        **_network_facts(config),
        "training step, s/image": round(seconds["step"], 4),
        "bare network, forward and backward, s/image": round(seconds["bare"], 4),
        "step / bare network": round(seconds["step"] / seconds["bare"], 3),
    }


def measure_eval(folder: Path) -> dict[str, Any]:
    """Compare eval_ssd.py's detection, input and all, with the forward pass alone, and time post-processing.

    Post-processing gets about the worst case: noise, of which most is above the threshold in every class.
    """
    shards, config = _prepare(folder, "val")
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    from dataset import dataset_common  # noqa: PLC0415
    from net import detections, estimator, ssd_model_fn, ssd_net  # noqa: PLC0415
    from utility.anchor_manipulator import default_boxes  # noqa: PLC0415

    def evaluation() -> dict[str, tf.Tensor]:
        images = (1 + FLAGS.turns * FLAGS.batches) * FLAGS.batch_size
        input_fn = dataset_common.eval_input_fn(shards * images, config, FLAGS.batch_size)
        run = tf.estimator.RunConfig(str(folder))
        params = estimator.build(config, run, FLAGS.data_format).params
        return ssd_model_fn.ssd_model_fn(_next_of(input_fn)[0], None, tf.estimator.ModeKeys.PREDICT, params).predictions

    def post_processing() -> detections.Detections:
        anchors = default_boxes(config)
        shape = [FLAGS.batch_size, len(anchors.cyxhw)]
        output = ssd_net.SsdOutput(
            tf.get_variable("offsets", [*shape, 4], initializer=tf.random_normal_initializer()),
            tf.get_variable("logits", [*shape, config.num_classes], initializer=tf.random_normal_initializer()),
        )
        return detections.detect(output, anchors, config.detection)

    seconds = _take_turns(
        {
            "evaluation": evaluation,
            # fetched as one number: what only a group of operations waits for is optimized away
            "bare": lambda: tf.add_n([tf.reduce_max(part) for part in _bare_network(config)]),
            "post-processing": post_processing,
        }
    )
    return {
        **_network_facts(config),
        "evaluation, s/image": round(seconds["evaluation"], 4),
        "bare network, forward, s/image": round(seconds["bare"], 4),
        "evaluation / bare network": round(seconds["evaluation"] / seconds["bare"], 3),
        "post-processing, ms/image": round(seconds["post-processing"] * 1000, 2),
        "post-processing / evaluation": round(seconds["post-processing"] / seconds["evaluation"], 3),
    }


def measure_metric(folder: Path) -> dict[str, Any]:
    """Time voc_eval.py, start-up and reading included, on a test set of VOC2007's size."""
    write_random_voc(folder, _TEST_IMAGES, _TEST_DETECTIONS)
    command = [sys.executable, "voc_eval.py", f"--dataset_directory={folder}", f"--pred_dir={folder / 'predict'}"]
    one_core = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    walls, cpus = [], []
    for _ in range(FLAGS.turns):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, cwd=runtime.ROOT, env=one_core, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - start)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "images": _TEST_IMAGES,
        "detections": _TEST_DETECTIONS,
        "voc_eval.py, s": round(statistics.median(walls), 2),
        "voc_eval.py, s of processor": round(statistics.median(cpus), 2),
    }


def _prepare(folder: Path, split: str) -> tuple[list[str], config_lib.Config]:
    """Return record files, those of --data_dir or generated ones, and the config to run on them."""
    runtime.start_tensorflow()
    from dataset import convert_tfrecords, make_sample_voc, records  # noqa: PLC0415

    data_dir = FLAGS.data_dir
    if data_dir is None:
        data_dir = str(folder / "tfrecords")
        make_sample_voc.make(folder / "VOC")
        convert_tfrecords.convert(
            dataset_directory=folder / "VOC",
            output_directory=data_dir,
            labels_file=str(folder / "VOC" / config_lib.LABELS_FILE),
        )
    names = records.class_names(data_dir, None)
    config = flags.with_network_flags(presets.preset(FLAGS.preset))
    config = config.replace({"class_names": names, "schedule.batch_size": FLAGS.batch_size})
    return records.find_shards(data_dir, split), config_lib.check(config)


def _training_input(shards: list[str], config: config_lib.Config) -> Callable:
    from dataset import training_input  # noqa: PLC0415

    return training_input.training_input_fn(shards, config, seed=1)


def _next_of(input_fn: Callable) -> Any:
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    return tf.data.make_one_shot_iterator(input_fn()).get_next()


def _bare_network(config: config_lib.Config, training: bool = False) -> Any:
    """Build the network on one batch of noise that stays in memory."""
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    from net import estimator, ssd_net  # noqa: PLC0415

    shape = [FLAGS.batch_size, *config.network.image_size, 3]
    images = tf.get_variable("images", shape, initializer=tf.random_normal_initializer(0, 64), trainable=False)
    data_format = FLAGS.data_format or estimator.default_data_format()
    return ssd_net.ssd_network(images, config, data_format, training=training)


def _network_facts(config: config_lib.Config) -> dict[str, Any]:
    """Count default boxes, trained parameters, and the multiplications of an image's convolutions."""
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    from net import ssd_net  # noqa: PLC0415

    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [1, *config.network.image_size, 3])
        output = ssd_net.ssd_network(images, config, "channels_last")
        parameters = sum(variable.shape.num_elements() for variable in tf.trainable_variables())
        multiplications = 0
        for operation in graph.get_operations():
            if operation.type in ("Conv2D", "DepthwiseConv2dNative"):
                rows, columns, inputs, _ = operation.inputs[1].shape
                each = rows * columns * (inputs if operation.type == "Conv2D" else 1)
                # a dilated one works on rearranged and padded cells: what counts is the map that comes out
                behind = operation.outputs[0].consumers()[0]
                output_map = (behind if behind.type == "BatchToSpaceND" else operation).outputs[0]
                multiplications += output_map.shape.num_elements() * each
    return {
        "preset": f"{config.preset}, {config.network.backbone} x {config.network.depth_multiplier:g}",
        "default boxes": int(output.offsets.shape[1]),
        "parameters, millions": round(parameters / 1e6, 2),
        "multiplications, GMAC/image": round(multiplications / 1e9, 2),
    }


def _take_turns(parts: Mapping[str, Callable[[], Any]], warm_up: int = 0) -> dict[str, float]:
    """Build each part in a graph of its own, run them in turn, and return the median seconds an image of each.

    A turn starts with `warm_up` batches that do not count.
    """
    runners = {name: _runner(build) for name, build in parts.items()}
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(FLAGS.turns):
        for name, run in runners.items():
            for _ in range(warm_up):
                run()
            start = time.perf_counter()
            for _ in range(FLAGS.batches):
                run()
            seconds[name].append((time.perf_counter() - start) / FLAGS.batches / FLAGS.batch_size)
    for name, values in seconds.items():
        runtime.log(f"{name}: {', '.join(f'{1000 * value:.2f}' for value in values)} ms/image")
    return {name: statistics.median(values) for name, values in seconds.items()}


def _runner(build: Callable[[], Any]) -> Callable[[], Any]:
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    with tf.Graph().as_default() as graph:
        fetches = build()
        initialize = tf.global_variables_initializer()
    session = tf.Session(graph=graph)
    session.run(initialize)
    session.run(fetches)  # the first run plans memory and picks kernels
    return lambda: session.run(fetches)


def _machine() -> dict[str, Any]:
    runtime.start_tensorflow()
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

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


def write_random_voc(root: Path, images: int, detections: int, seed: int = 0) -> None:
    """Write a VOC2007TEST of 3 objects an image, as in VOC, and predict/ with detections, half near an object."""
    rng = np.random.default_rng(seed)
    split_dir = root / "VOC2007TEST"
    (split_dir / "Annotations").mkdir(parents=True)
    (split_dir / "ImageSets" / "Main").mkdir(parents=True)
    ids = np.array([f"{index:06d}" for index in range(1, images + 1)])
    (split_dir / "ImageSets" / "Main" / "test.txt").write_text("\n".join(ids))
    boxes = np.sort(rng.integers(1, 375, [images, 3, 2, 2]), axis=2).reshape(images, 3, 4)
    boxes[..., 2:] += 2
    classes = rng.integers(20, size=[images, 3])
    for image_id, image_boxes, image_classes in zip(ids, boxes.tolist(), classes, strict=True):
        objects = "\n".join(
            f"<object><name>{labels.VOC_CLASSES[index]}</name><pose>Left</pose><truncated>0</truncated>"
            f"<difficult>{int(xmin % 8 == 0)}</difficult><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
            f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
            for index, (ymin, xmin, ymax, xmax) in zip(image_classes, image_boxes, strict=True)
        )
        size = "<size><width>500</width><height>375</height><depth>3</depth></size>"
        text = f"<annotation>\n<filename>{image_id}.jpg</filename>{size}{objects}</annotation>"
        (split_dir / "Annotations" / f"{image_id}.xml").write_text(text)
    image, item = rng.integers(images, size=detections), rng.integers(3, size=detections)
    near = boxes[image, item] + rng.normal(0, 12, [detections, 4])
    class_ids = np.where(rng.random(detections) < 0.5, classes[image, item], rng.integers(20, size=detections)) + 1
    found = {
        class_id: voc.Detections(ids[image[mine]], rng.random(mine.sum()), near[mine])
        for class_id in range(1, 21)
        for mine in [class_ids == class_id]
    }
    voc.write_results(root / "predict", found, num_classes=21)


if __name__ == "__main__":
    runtime.run(main, flags.define_benchmark)
