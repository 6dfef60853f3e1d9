"""The Estimator and its settings: devices, sessions, checkpoints, summaries."""

from __future__ import annotations

import os
from typing import Any

import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from net.layers import Precision
from net.ssd_model_fn import Params, ssd_model_fn
from utility.config.settings import Config
from utility.run import cluster
from utility.run.cluster import Task
from utility.run.log import log
from utility.startup import gpu_libraries

CLUSTER_CHECKPOINT_STEPS = 1000  # between two checkpoints of a training on several machines, unless told otherwise
_MOST_SUMMARY_STEPS = 500  # between two summaries, unless told otherwise; as in the reference


def gpus() -> tuple[str, ...]:
    """Return the GPUs that TensorFlow sees, by name."""
    return tuple(f"/gpu:{number}" for number in range(len(tf.config.list_physical_devices("GPU"))))


def explain_missing_gpu() -> None:
    """Log why TensorFlow uses no GPU although this machine has the driver of one."""
    if gpu_libraries.has_driver() and tf.test.is_built_with_cuda() and (reason := gpu_libraries.explanation()):
        log(f"note: {reason}")


def default_data_format() -> str:
    """Return the layout that the device at hand runs best, or at all."""
    return "channels_first" if gpus() else "channels_last"


def session_config(
    cpu_threads: int = 0, gpu_memory_fraction: float = 1.0, precision: Precision = Precision.FLOAT32
) -> tf.ConfigProto:
    """Return TensorFlow's session settings.

    Args:
      cpu_threads: 0 for one a core.
      gpu_memory_fraction: part of each GPU's memory that is taken at the start; 1 takes memory as it is needed.
      precision: in bfloat16 TensorFlow rewrites the graph; the other formats are those of the graph as it is built.
    """
    options = tf.GPUOptions(allow_growth=gpu_memory_fraction >= 1.0)
    if gpu_memory_fraction < 1.0:
        options.per_process_gpu_memory_fraction = gpu_memory_fraction
    session = tf.ConfigProto(
        allow_soft_placement=True,
        intra_op_parallelism_threads=cpu_threads,
        inter_op_parallelism_threads=cpu_threads,
        gpu_options=options,
    )
    if precision is Precision.BFLOAT16:
        session.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = RewriterConfig.ON
    return session


def run_config(
    model_dir: str,
    session: tf.ConfigProto,
    *,
    last_step: int = _MOST_SUMMARY_STEPS * 100,
    summary_steps: int | None = None,
    checkpoint_seconds: int | None = None,
    checkpoint_steps: int | None = None,
    seed: int | None = None,
    deterministic: bool = False,
    task: Task | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> tf.estimator.RunConfig:
    """Return the Estimator's settings.

    Args:
      model_dir: folder of checkpoints and summaries.
      session: as `session_config` gives it.
      last_step: of the training.
      summary_steps: between two summaries; None: a hundredth of the training, at most 500.
      checkpoint_seconds: between two checkpoints; not used where `checkpoint_steps` is given.
      checkpoint_steps: between two checkpoints.
      seed: of the initial weights.
      deterministic: the operations of this process give the same numbers each time, at some cost of speed. On a GPU
        they do not by themselves. It needs the `seed`.
      task: this process's place in a cluster; TensorFlow reads it from the environment, where it is set here.
      strategy: how replicas train together.
    """
    if deterministic:
        tensorflow.config.experimental.enable_op_determinism()  # compat.v1 does not have it
    cluster.export(task, os.environ)
    if task:  # saving is a step of all workers; by clocks of their own they would wait for each other for ever
        checkpoint_steps = checkpoint_steps or CLUSTER_CHECKPOINT_STEPS
    summary_steps = summary_steps or max(1, min(_MOST_SUMMARY_STEPS, last_step // 100))
    return tf.estimator.RunConfig(
        model_dir=model_dir,
        session_config=session,
        tf_random_seed=seed,
        save_summary_steps=summary_steps,
        save_checkpoints_secs=None if checkpoint_steps else checkpoint_seconds,
        save_checkpoints_steps=checkpoint_steps,
        keep_checkpoint_max=5 if task is None or task.is_chief else 1,
        log_step_count_steps=summary_steps,
        train_distribute=strategy,
    )


def build(
    config: Config, run: tf.estimator.RunConfig, data_format: str | None = None, **others: Any
) -> tf.estimator.Estimator:
    """Return the Estimator of a config.

    Args:
      config: what `ssd_model_fn` builds.
      run: as `run_config` gives it.
      data_format: layout of the feature maps; None: what the device runs best.
      others: further fields of Params.
    """
    params = Params(config, data_format or default_data_format(), **others)
    return tf.estimator.Estimator(ssd_model_fn, config=run, params=params)
