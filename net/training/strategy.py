"""From a layout to the devices: which GPUs train, and the strategy that keeps their variables equal."""

from __future__ import annotations

import os

import tensorflow.compat.v1 as tf

from net.estimator.run_config import gpus
from net.training import coordination
from utility.config.settings import Config
from utility.run.cluster import Task
from utility.run.layout import RunLayout
from utility.run.log import log
from utility.startup import gpu_libraries


def plan_layout(config: Config, multi_gpu: bool, accumulate_steps: int, task: Task | None) -> RunLayout:
    """Return how a training is laid out over all visible GPUs, or the first alone, or the CPU; see `RunLayout.of`.

    An evaluator's layout has no devices.
    """
    devices = gpus() if multi_gpu else gpus()[:1]
    if task and task.evaluates:
        return RunLayout.of(config, task=task)
    if not devices:
        _explain_missing_gpu()
    return RunLayout.of(config, devices, accumulate_steps, task)


def _explain_missing_gpu() -> None:
    """Log why TensorFlow uses no GPU although this machine has the driver of one."""
    if gpu_libraries.has_driver() and tf.test.is_built_with_cuda():
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        reason = gpu_libraries.explanation(hidden, gpu_libraries.site_packages())
        if reason:
            log(f"note: {reason}")


def train_strategy(layout: RunLayout) -> tf.distribute.Strategy | None:
    """Return the strategy of a layout, None for a single replica; with several workers, wait until all have joined."""
    if not layout.trains:
        return None
    if layout.task:
        return coordination.join(layout.task, len(layout.devices))
    return tf.distribute.MirroredStrategy(layout.devices) if layout.replicas > 1 else None
