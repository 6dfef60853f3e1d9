"""The stages of the project against the least that they could take: input, training, evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow.compat.v1 as tf

from dataset.input.evaluation import eval_input_fn
from dataset.input.training import training_input_fn, training_records
from dataset.records.parsing import parse
from net.benchmark import bare_network
from net.benchmark.turns import Turns
from net.estimator.run_config import build
from net.estimator.ssd_model_fn import ssd_model_fn
from net.network.detections import Detections, detect
from net.network.ssd_net import SsdOutput
from utility.boxes.default_boxes import default_boxes
from utility.config.settings import Config
from utility.run.layout import RunLayout

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
        params = _params(config, model_dir, data_format, log_every_n_steps=10, precision=turns.precision)
        return ssd_model_fn(features, targets, tf.estimator.ModeKeys.TRAIN, params).train_op

    bare = lambda: bare_network.forward_and_backward(config, turns, data_format)  # noqa: E731
    seconds = turns.time({"step": step, "bare": bare})
    return {
        **bare_network.network_facts(config),
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
        params = _params(config, model_dir, data_format, precision=turns.precision)
        return ssd_model_fn(features, None, tf.estimator.ModeKeys.PREDICT, params).predictions

    seconds = turns.time(
        {
            "evaluation": evaluation,
            "bare": lambda: bare_network.forward(config, turns, data_format),
            "post-processing": lambda: _post_processing(config, turns.batch_size),
        }
    )
    return {
        **bare_network.network_facts(config),
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


def _params(config: Config, model_dir: Path, data_format: str | None, **params: Any) -> dict[str, Any]:
    return build(config, tf.estimator.RunConfig(str(model_dir)), data_format, **params).params
