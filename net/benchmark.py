"""The stages of the project against the least that they could take: input, training, evaluation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from dataset.input import eval_input_fn, training_input_fn, training_records
from dataset.records.parsing import parse
from net.default_boxes import default_boxes
from net.detections import Detections, detect
from net.devices import Precision
from net.run_config import session_config
from net.ssd_model_fn import Params, ssd_model_fn
from net.ssd_net import SsdOutput, ssd_network
from utility.config.settings import Config
from utility.run.layout import RunLayout
from utility.run.log import log


class Turns(NamedTuple):
    """How much is timed, so many turns, each of so many batches, and what the network computes with."""

    batch_size: int
    batches: int
    turns: int
    precision: Precision
    data_format: str

    def time(self, parts: Mapping[str, Callable[[], Any]], warm_up: int = 0) -> dict[str, float]:
        """Build each part in a graph of its own, run them in turns, and return the median seconds an image of each.

        A part returns what a session fetches. A turn starts with `warm_up` batches that do not count.
        """
        sessions = {}
        for name, build_part in parts.items():
            with tf.Graph().as_default() as graph:
                fetches = build_part()
                initialize = tf.global_variables_initializer()
            sessions[name] = tf.Session(graph=graph, config=session_config(precision=self.precision)), fetches
            sessions[name][0].run(initialize)
            sessions[name][0].run(fetches)  # the first run plans memory and picks kernels
        seconds: dict[str, list[float]] = {name: [] for name in parts}
        for _ in range(self.turns):
            for name, (session, fetches) in sessions.items():
                for _ in range(warm_up):
                    session.run(fetches)
                start = time.perf_counter()
                for _ in range(self.batches):
                    session.run(fetches)
                seconds[name].append((time.perf_counter() - start) / self.batches / self.batch_size)
        for name, values in seconds.items():
            log(f"{name}: {', '.join(f'{1000 * value:.2f}' for value in values)} ms/image")
        return {name: statistics.median(values) for name, values in seconds.items()}


def measure_input(shards: list[str], config: Config, turns: Turns) -> dict[str, Any]:
    """Compare train_ssd.py's input with decoding the same JPEGs and doing nothing else."""

    def raw() -> tf.data.Dataset:
        dataset = tf.data.TFRecordDataset(shards).repeat()
        decode = lambda record: tf.io.decode_jpeg(parse(record)["image_encoded"], channels=3)[0, 0, 0]  # noqa: E731
        return dataset.map(decode, num_parallel_calls=24).batch(turns.batch_size).prefetch(2)

    training = lambda: tf.group(*tf.nest.flatten(_next_of(_training_input(shards, config))))  # noqa: E731
    # the warm-up takes the batches that were made while the other part ran
    seconds = turns.time({"input": training, "raw": lambda: _next_of(raw).op}, warm_up=3)
    return {
        "training input, images/s": round(1 / seconds["input"], 1),
        "raw JPEG decoding, images/s": round(1 / seconds["raw"], 1),
        "input / raw decoding": round(seconds["raw"] / seconds["input"], 3),
    }


def measure_train(shards: list[str], config: Config, turns: Turns) -> dict[str, Any]:
    """Compare train_ssd.py's step, input and all, with the network's forward and backward pass alone."""

    def step() -> tf.Operation:
        features, targets = _next_of(_training_input(shards, config))
        params = Params(config, turns.data_format, precision=turns.precision)
        return ssd_model_fn(features, targets, tf.estimator.ModeKeys.TRAIN, params).train_op

    def forward_and_backward() -> tf.Tensor:
        output = _bare_network(config, turns, training=True)
        # the gradient of a mean would not depend on the output, and TensorFlow would drop the heads' forward pass
        loss = tf.nn.l2_loss(output.offsets) + tf.nn.l2_loss(output.logits)
        return _one_number(tf.gradients(loss, tf.trainable_variables()))

    seconds = turns.time({"step": step, "bare": forward_and_backward})
    return {
        **_network_facts(config),
        "training step, s/image": round(seconds["step"], 4),
        "bare network, forward and backward, s/image": round(seconds["bare"], 4),
        "step / bare network": round(seconds["step"] / seconds["bare"], 3),
    }


def measure_eval(shards: list[str], config: Config, turns: Turns) -> dict[str, Any]:
    """Compare eval_ssd.py's detection, input and all, with the forward pass alone, and time post-processing."""

    def evaluation() -> dict[str, tf.Tensor]:
        images = (1 + turns.turns * turns.batches) * turns.batch_size
        features, _ = _next_of(eval_input_fn(shards * images, config, turns.batch_size))
        params = Params(config, turns.data_format, precision=turns.precision)
        return ssd_model_fn(features, None, tf.estimator.ModeKeys.PREDICT, params).predictions

    def post_processing() -> Detections:
        """Build it on about the worst case: noise, of which most is above the threshold in every class."""
        anchors, noise = default_boxes(config), tf.random_normal_initializer()
        shape = [turns.batch_size, len(anchors.cyxhw)]
        offsets = tf.get_variable("offsets", [*shape, 4], initializer=noise)
        logits = tf.get_variable("logits", [*shape, config.num_classes], initializer=noise)
        return detect(SsdOutput(offsets, logits), anchors, config.detection)

    forward = lambda: _one_number(_bare_network(config, turns))  # noqa: E731
    seconds = turns.time({"evaluation": evaluation, "bare": forward, "post-processing": post_processing})
    return {
        **_network_facts(config),
        "evaluation, s/image": round(seconds["evaluation"], 4),
        "bare network, forward, s/image": round(seconds["bare"], 4),
        "evaluation / bare network": round(seconds["evaluation"] / seconds["bare"], 3),
        "post-processing, ms/image": round(seconds["post-processing"] * 1000, 2),
        "post-processing / evaluation": round(seconds["post-processing"] / seconds["evaluation"], 3),
    }


def _training_input(shards: list[str], config: Config) -> Callable:
    return training_input_fn(training_records(shards, config), config, RunLayout.of(config), seed=1)


def _next_of(input_fn: Callable) -> Any:
    return tf.data.make_one_shot_iterator(input_fn()).get_next()


def _bare_network(config: Config, turns: Turns, training: bool = False) -> SsdOutput:
    """Build the network alone, on one batch of noise that stays in memory."""
    shape = [turns.batch_size, *config.network.image_size, 3]
    images = tf.get_variable("images", shape, initializer=tf.random_normal_initializer(0, 64), trainable=False)
    half = turns.precision is Precision.FLOAT16
    return ssd_network(images, config, turns.data_format, training=training, mixed_precision=half)


def _one_number(tensors: Iterable[tf.Tensor]) -> tf.Tensor:
    """Return what depends on all tensors: TensorFlow drops what only a group of operations waits for."""
    return tf.add_n([tf.reduce_max(tensor) for tensor in tensors])


def _network_facts(config: Config) -> dict[str, Any]:
    """Count default boxes, trained parameters, and the multiplications of an image's convolutions."""
    multiplications = 0
    with tf.Graph().as_default() as graph:
        output = ssd_network(tf.placeholder(tf.float32, [1, *config.network.image_size, 3]), config, "channels_last")
        parameters = sum(variable.shape.num_elements() for variable in tf.trainable_variables())
    for operation in graph.get_operations():
        if operation.type in ("Conv2D", "DepthwiseConv2dNative"):
            rows, columns, inputs, _ = operation.inputs[1].shape
            # a dilated one works on rearranged and padded cells: what counts is the map that comes out
            behind = operation.outputs[0].consumers()[0]
            output_map = (behind if behind.type == "BatchToSpaceND" else operation).outputs[0]
            each = rows * columns * (inputs if operation.type == "Conv2D" else 1)
            multiplications += output_map.shape.num_elements() * each
    return {
        "preset": f"{config.preset}, {config.network.backbone} x {config.network.depth_multiplier:g}",
        "default boxes": int(output.offsets.shape[1]),
        "parameters, millions": round(parameters / 1e6, 2),
        "multiplications, GMAC/image": round(multiplications / 1e9, 2),
    }
