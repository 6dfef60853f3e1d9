"""The stages of the project against the least that they could take: input, training, evaluation."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dataset.input import eval_input_fn, training_input_fn, training_records
from dataset.records.parsing import parse
from dataset.scores import voc_results
from dataset.scores.detection_store import ClassDetections
from dataset.sources import labels
from net.default_boxes import default_boxes
from net.detections import Detections, detect
from net.layers import Precision
from net.run_config import default_data_format, session_config
from net.ssd_model_fn import Params, ssd_model_fn
from net.ssd_net import SsdOutput, ssd_network
from utility.config.settings import Config
from utility.run.command import ROOT
from utility.run.layout import RunLayout
from utility.run.log import log

# Timing several parts of a program in turns, so that what else the machine does slows all of them alike.


class Turns(NamedTuple):
    """How much is timed: so many turns, each of so many batches, with what the network computes in."""

    batch_size: int
    batches: int
    turns: int
    precision: Precision = Precision.FLOAT32

    def time(self, parts: Mapping[str, Callable[[], Any]], warm_up: int = 0) -> dict[str, float]:
        """Build each part in a graph of its own, run them in turns, and return the median seconds an image of each.

        A turn starts with `warm_up` batches that do not count. A part returns what a session fetches.
        """
        runners = {name: _runner(build, self.precision) for name, build in parts.items()}
        seconds: dict[str, list[float]] = {name: [] for name in parts}
        for _ in range(self.turns):
            for name, run in runners.items():
                for _ in range(warm_up):
                    run()
                start = time.perf_counter()
                for _ in range(self.batches):
                    run()
                seconds[name].append((time.perf_counter() - start) / self.batches / self.batch_size)
        for name, values in seconds.items():
            log(f"{name}: {', '.join(f'{1000 * value:.2f}' for value in values)} ms/image")
        return {name: statistics.median(values) for name, values in seconds.items()}


def _runner(build: Callable[[], Any], precision: Precision) -> Callable[[], Any]:
    with tf.Graph().as_default() as graph:
        fetches = build()
        initialize = tf.global_variables_initializer()
    session = tf.Session(graph=graph, config=session_config(precision=precision))
    session.run(initialize)
    session.run(fetches)  # the first run plans memory and picks kernels
    return lambda: session.run(fetches)


# A VOC test set of random objects and detections without pictures, for timing the metric.


def write_random_voc(root: Path, images: int, detections: int, seed: int = 0) -> None:
    """Write VOC2007TEST, 3 objects an image, and predict/: detections near objects, half of them of the right class."""
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
        class_id: ClassDetections(ids[image[mine]], rng.random(mine.sum()), near[mine])
        for class_id in range(1, 21)
        for mine in [class_ids == class_id]
    }
    voc_results.write_results(root / "predict", found, num_classes=21)


# The time and memory of voc_eval.py; without TensorFlow, whose memory would count as that of the child process.

_TEST_IMAGES, _TEST_DETECTIONS = 4952, 500_000  # VOC2007's test set


def measure_metric(folder: Path, turns: int) -> dict[str, Any]:
    """Time voc_eval.py, start-up and reading included, on a test set of VOC2007's size."""
    write_random_voc(folder, _TEST_IMAGES, _TEST_DETECTIONS)
    arguments = [sys.executable, "voc_eval.py", f"--dataset_directory={folder}", f"--pred_dir={folder / 'predict'}"]
    one_core = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    walls, cpus = [], []
    for _ in range(turns):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(arguments, cwd=ROOT, env=one_core, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - start)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "images": _TEST_IMAGES,
        "detections": _TEST_DETECTIONS,
        "voc_eval.py, s": round(statistics.median(walls), 2),
        "voc_eval.py, s of processor": round(statistics.median(cpus), 2),
    }


# What the project's stages are compared with: the network alone, on a batch that stays in memory.


def bare_network(config: Config, turns: Turns, data_format: str | None, training: bool = False) -> SsdOutput:
    """Build the network on one batch of noise."""
    shape = [turns.batch_size, *config.network.image_size, 3]
    images = tf.get_variable("images", shape, initializer=tf.random_normal_initializer(0, 64), trainable=False)
    half = turns.precision is Precision.FLOAT16
    return ssd_network(images, config, data_format or default_data_format(), training=training, mixed_precision=half)


def forward(config: Config, turns: Turns, data_format: str | None) -> tf.Tensor:
    """Build the forward pass, fetched as one number: TensorFlow drops what only a group of operations waits for."""
    return tf.add_n([tf.reduce_max(part) for part in bare_network(config, turns, data_format)])


def forward_and_backward(config: Config, turns: Turns, data_format: str | None) -> tf.Tensor:
    """Build the forward and the backward pass of a simple loss, fetched as one number.

    The gradient of a mean would not depend on the output, and TensorFlow would drop the heads' forward pass.
    """
    output = bare_network(config, turns, data_format, training=True)
    loss = tf.nn.l2_loss(output.offsets) + tf.nn.l2_loss(output.logits)
    gradients = tf.gradients(loss, tf.trainable_variables())
    return tf.add_n([tf.reduce_max(gradient) for gradient in gradients])


def network_facts(config: Config) -> dict[str, Any]:
    """Count default boxes, trained parameters, and the multiplications of an image's convolutions."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [1, *config.network.image_size, 3])
        output = ssd_network(images, config, "channels_last")
        parameters = sum(variable.shape.num_elements() for variable in tf.trainable_variables())
        multiplications = sum(map(_multiplications, graph.get_operations()))
    return {
        "preset": f"{config.preset}, {config.network.backbone} x {config.network.depth_multiplier:g}",
        "default boxes": int(output.offsets.shape[1]),
        "parameters, millions": round(parameters / 1e6, 2),
        "multiplications, GMAC/image": round(multiplications / 1e9, 2),
    }


def _multiplications(operation: tf.Operation) -> int:
    """Return the multiplications of a convolution, 0 for any other operation."""
    if operation.type not in ("Conv2D", "DepthwiseConv2dNative"):
        return 0
    rows, columns, inputs, _ = operation.inputs[1].shape
    each = rows * columns * (inputs if operation.type == "Conv2D" else 1)
    # a dilated one works on rearranged and padded cells: what counts is the map that comes out
    behind = operation.outputs[0].consumers()[0]
    output_map = (behind if behind.type == "BatchToSpaceND" else operation).outputs[0]
    return output_map.shape.num_elements() * each


_FETCHED_AHEAD = 3  # batches of input that are made while another part runs


def measure_input(shards: list[str], config: Config, turns: Turns) -> dict[str, Any]:
    """Compare train_ssd.py's input with decoding the same JPEGs and doing nothing else."""

    def raw() -> tf.data.Dataset:
        dataset = tf.data.TFRecordDataset(shards).repeat()
        decoded = dataset.map(
            lambda record: tf.io.decode_jpeg(parse(record)["image_encoded"], channels=3)[0, 0, 0],
            num_parallel_calls=24,
        )
        return decoded.batch(turns.batch_size).prefetch(2)

    seconds = turns.time(
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


def measure_train(
    shards: list[str], config: Config, turns: Turns, data_format: str | None, model_dir: Path
) -> dict[str, Any]:
    """Compare train_ssd.py's step, input and all, with the network's forward and backward pass alone."""

    def step() -> tf.Operation:
        features, targets = _next_of(_training_input(shards, config))
        params = _params(config, data_format, turns.precision)
        return ssd_model_fn(features, targets, tf.estimator.ModeKeys.TRAIN, params).train_op

    bare = lambda: forward_and_backward(config, turns, data_format)  # noqa: E731
    seconds = turns.time({"step": step, "bare": bare})
    return {
        **network_facts(config),
        "training step, s/image": round(seconds["step"], 4),
        "bare network, forward and backward, s/image": round(seconds["bare"], 4),
        "step / bare network": round(seconds["step"] / seconds["bare"], 3),
    }


def measure_eval(
    shards: list[str], config: Config, turns: Turns, data_format: str | None, model_dir: Path
) -> dict[str, Any]:
    """Compare eval_ssd.py's detection, input and all, with the forward pass alone, and time post-processing."""

    def evaluation() -> dict[str, tf.Tensor]:
        images = (1 + turns.turns * turns.batches) * turns.batch_size
        features, _ = _next_of(eval_input_fn(shards * images, config, turns.batch_size))
        params = _params(config, data_format, turns.precision)
        return ssd_model_fn(features, None, tf.estimator.ModeKeys.PREDICT, params).predictions

    seconds = turns.time(
        {
            "evaluation": evaluation,
            "bare": lambda: forward(config, turns, data_format),
            "post-processing": lambda: _post_processing(config, turns.batch_size),
        }
    )
    return {
        **network_facts(config),
        "evaluation, s/image": round(seconds["evaluation"], 4),
        "bare network, forward, s/image": round(seconds["bare"], 4),
        "evaluation / bare network": round(seconds["evaluation"] / seconds["bare"], 3),
        "post-processing, ms/image": round(seconds["post-processing"] * 1000, 2),
        "post-processing / evaluation": round(seconds["post-processing"] / seconds["evaluation"], 3),
    }


def _post_processing(config: Config, batch_size: int) -> Detections:
    """Build it on about the worst case: noise, of which most is above the threshold in every class."""
    anchors, noise = default_boxes(config), tf.random_normal_initializer()
    shape = [batch_size, len(anchors.cyxhw)]
    output = SsdOutput(
        tf.get_variable("offsets", [*shape, 4], initializer=noise),
        tf.get_variable("logits", [*shape, config.num_classes], initializer=noise),
    )
    return detect(output, anchors, config.detection)


def _training_input(shards: list[str], config: Config) -> Callable:
    layout = RunLayout.of(config)
    return training_input_fn(training_records(shards, config), config, layout, seed=1)


def _next_of(input_fn: Callable) -> Any:
    return tf.data.make_one_shot_iterator(input_fn()).get_next()


def _params(config: Config, data_format: str | None, precision: Precision) -> Params:
    return Params(config, data_format or default_data_format(), precision=precision)
