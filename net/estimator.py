"""The Estimator around model_fn: devices, checkpoints, summaries; training and detection with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from net import machines, optimizer
from net.ssd_model_fn import ssd_model_fn
from utility import tf_config
from utility.config import Config
from utility.runtime import log
from utility.tf_config import Task

CHECKPOINT_STEPS = 1000  # between two checkpoints of a training on several machines, unless the user says otherwise


def gpus() -> list[str]:
    """Return the GPUs that TensorFlow sees, by name."""
    return [f"/gpu:{number}" for number in range(len(tf.config.list_physical_devices("GPU")))]


def train_strategy(devices: Sequence[str], task: Task | None = None) -> tf.distribute.Strategy | None:
    """Return how several devices train as mirrors of each other, on several machines where there is a task.

    None where there is one device, and for the evaluator, which does not train.
    """
    if task and not task.evaluates:
        tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[: len(devices)], "GPU")
        return machines.join(task)
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 and not task else None


def default_data_format() -> str:
    """Return the layout that the device at hand runs best, or at all."""
    return "channels_first" if gpus() else "channels_last"


def session_config(cpu_threads: int = 0, gpu_memory_fraction: float = 1.0) -> tf.ConfigProto:
    """Return TensorFlow's session settings; 0 threads means one a core, a fraction of 1 takes memory as needed."""
    options = tf.GPUOptions(allow_growth=gpu_memory_fraction >= 1.0)
    if gpu_memory_fraction < 1.0:
        options.per_process_gpu_memory_fraction = gpu_memory_fraction
    return tf.ConfigProto(
        allow_soft_placement=True,
        intra_op_parallelism_threads=cpu_threads,
        inter_op_parallelism_threads=cpu_threads,
        gpu_options=options,
    )


def run_config(
    model_dir: str,
    session: tf.ConfigProto,
    *,
    seed: int | None = None,
    save_summary_steps: int = 500,
    save_checkpoints_secs: int | None = None,
    save_checkpoints_steps: int | None = None,
    strategy: tf.distribute.Strategy | None = None,
    task: Task | None = None,
) -> tf.estimator.RunConfig:
    """Return the Estimator's settings; a `strategy` as `train_strategy` gives it, and the `task` it was given."""
    tf_config.tell_tensorflow(task, os.environ)
    if task:  # workers that save by their own clocks would wait for each other for ever
        save_checkpoints_steps = save_checkpoints_steps or CHECKPOINT_STEPS
    return tf.estimator.RunConfig(
        model_dir=model_dir,
        session_config=session,
        tf_random_seed=seed,
        save_summary_steps=save_summary_steps,
        save_checkpoints_secs=None if save_checkpoints_steps else save_checkpoints_secs,
        save_checkpoints_steps=save_checkpoints_steps,
        keep_checkpoint_max=5 if task is None or task.is_chief else 1,
        log_step_count_steps=save_summary_steps,
        train_distribute=strategy,
    )


def build(config: Config, run: tf.estimator.RunConfig, data_format: str | None = None, **params: Any):
    """Return the Estimator of a config; `params` go to model_fn. The default layout is what the device can run."""
    if params.get("mixed_precision"):
        _check_mixed_precision(run.model_dir)
    params = {
        "config": config,
        "data_format": data_format or default_data_format(),
        "model_scope": "ssd300",
        **params,
    }
    return tf.estimator.Estimator(ssd_model_fn, config=run, params=params)


def _check_mixed_precision(model_dir: str) -> None:
    """Raise a ValueError if a run that has no loss scale is to go on with one, and tell what a CPU makes of it."""
    newest = tf.train.latest_checkpoint(model_dir)
    if newest and optimizer.LOSS_SCALE not in dict(tf.train.list_variables(newest)):
        raise ValueError(
            f"--mixed_precision: {newest} was trained without it and has no loss scale to go on with; leave the flag"
            f" out, or take its weights into another --model_dir: --checkpoint_path={newest}"
            " --checkpoint_model_scope=ssd300 --checkpoint_exclude_scopes="
        )
    if not gpus():
        log("--mixed_precision: without a GPU, float16 is computed exactly as on one, but slower than float32")


def has_checkpoint(model_dir: str) -> bool:
    """Tell whether a run has left a checkpoint in a model directory."""
    return tf.train.latest_checkpoint(model_dir) is not None


class Started(tf.train.SessionRunHook):
    """Calls a function once the graph stands and its variables are restored."""

    def __init__(self, call: Callable[[], None]):
        self._call = call

    def after_create_session(self, session: tf.Session, coord: tf.train.Coordinator) -> None:
        """Call it."""
        del session, coord
        self._call()


def train(
    estimator: tf.estimator.Estimator, input_fn, max_steps: int, on_start: Callable[[], None] = lambda: None
) -> None:
    """Train until the global step is `max_steps`, from the model directory's newest checkpoint if it has one.

    `on_start` is called when everything has been built and restored: what it writes is not written in vain.
    """
    if is_at_end(estimator, max_steps):
        return
    estimator.train(input_fn, max_steps=max_steps, hooks=[Started(on_start)])
    log(f"trained to step {max_steps}; checkpoint and summaries are in {estimator.model_dir}")


def is_at_end(estimator: tf.estimator.Estimator, max_steps: int) -> bool:
    """Tell whether there is nothing left to train, and say so; else say if the weights are random."""
    step = checkpoint_step(estimator.model_dir)
    if step is not None and step >= max_steps:
        log(f"{estimator.model_dir} is at step {step} already: raise --max_number_of_steps to train further")
        return True
    if estimator.params.get("start") is None and step is None:
        log("starting from random weights: there is no checkpoint in --model_dir nor in --checkpoint_path")
    return False


def checkpoint_step(model_dir: str) -> int | None:
    """Return the step of a model directory's newest checkpoint, None where it has none."""
    return int(tf.train.load_variable(model_dir, "global_step")) if has_checkpoint(model_dir) else None


def detect(estimator: tf.estimator.Estimator, input_fn, checkpoint: str) -> Iterator[dict[str, np.ndarray]]:
    """Yield one dict an image: what features held but the picture, and the real detections alone.

    `boxes_yxyx` float32 [D, 4] in [0, 1] of the image, `scores` float32 [D] from the highest, `classes` int32 [D].
    """
    for batch in estimator.predict(input_fn, checkpoint_path=checkpoint, yield_single_examples=False):
        for row in range(len(batch["count"])):
            count = batch["count"][row]
            image = {name: values[row] for name, values in batch.items() if name != "count"}
            yield {**image, **{name: image[name][:count] for name in ("boxes_yxyx", "scores", "classes")}}
