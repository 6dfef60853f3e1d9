"""The Estimator and its settings: devices, sessions, checkpoints, summaries."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from net.layers import Precision
from net.ssd_model_fn import ssd_model_fn
from utility.config.settings import Config
from utility.run import cluster
from utility.run.cluster import Task

CLUSTER_CHECKPOINT_STEPS = 1000  # between two checkpoints of a training on several machines, unless told otherwise
_MOST_SUMMARY_STEPS = 500  # between two summaries, unless told otherwise; as in the reference


class Saving(NamedTuple):
    """How often a training writes summaries and checkpoints; the latter by steps if these are given, else by time."""

    summary_steps: int = _MOST_SUMMARY_STEPS
    checkpoint_seconds: int | None = None
    checkpoint_steps: int | None = None


def suited_summary_steps(last_step: int) -> int:
    """Return the steps between two summaries of a training that ends at `last_step`: a hundredth of it, at most 500."""
    return max(1, min(_MOST_SUMMARY_STEPS, last_step // 100))


def gpus() -> tuple[str, ...]:
    """Return the GPUs that TensorFlow sees, by name."""
    return tuple(f"/gpu:{number}" for number in range(len(tf.config.list_physical_devices("GPU"))))


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
    saving: Saving = Saving(),  # noqa: B008 (immutable)
    *,
    seed: int | None = None,
    deterministic: bool = False,
    task: Task | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> tf.estimator.RunConfig:
    """Return the Estimator's settings.

    Args:
      model_dir: folder of checkpoints and summaries.
      session: as `session_config` gives it.
      saving: how often summaries and checkpoints are written.
      seed: of the initial weights.
      deterministic: the operations of this process give the same numbers each time, at some cost of speed. On a GPU
        they do not by themselves. It needs the `seed`.
      task: this process's place in a cluster; TensorFlow reads it from the environment, where it is set here.
      strategy: how replicas train together.
    """
    if deterministic:
        tensorflow.config.experimental.enable_op_determinism()  # compat.v1 does not have it
    cluster.export(task, os.environ)
    checkpoint_steps = saving.checkpoint_steps
    if task:  # saving is a step of all workers; by clocks of their own they would wait for each other for ever
        checkpoint_steps = checkpoint_steps or CLUSTER_CHECKPOINT_STEPS
    return tf.estimator.RunConfig(
        model_dir=model_dir,
        session_config=session,
        tf_random_seed=seed,
        save_summary_steps=saving.summary_steps,
        save_checkpoints_secs=None if checkpoint_steps else saving.checkpoint_seconds,
        save_checkpoints_steps=checkpoint_steps,
        keep_checkpoint_max=5 if task is None or task.is_chief else 1,
        log_step_count_steps=saving.summary_steps,
        train_distribute=strategy,
    )


def build(
    config: Config, run: tf.estimator.RunConfig, data_format: str | None = None, **params: Any
) -> tf.estimator.Estimator:
    """Return the Estimator of a config.

    Args:
      config: what `ssd_model_fn` builds.
      run: as `run_config` gives it.
      data_format: layout of the feature maps; None: what the device runs best.
      params: what else `ssd_model_fn` documents.
    """
    params = {
        "config": config,
        "data_format": data_format or default_data_format(),
        "model_scope": "ssd300",
        **params,
    }
    return tf.estimator.Estimator(ssd_model_fn, config=run, params=params)
