"""The Estimator around model_fn: devices, checkpoints, summaries; training and detection with it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf

from net import machines, optimizer
from net.ssd_model_fn import ssd_model_fn
from utility import checkpoints, scaffolds, tf_config
from utility.config import Config
from utility.runtime import StopRequest, log, stop_requests
from utility.tf_config import Task

if TYPE_CHECKING:
    from net.evaluation import InTraining

CHECKPOINT_STEPS = 1000  # between two checkpoints of a training on several machines, unless the user says otherwise

# why a file that could be opened cannot be written
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def gpus() -> list[str]:
    """Return the GPUs that TensorFlow sees, by name."""
    return [f"/gpu:{number}" for number in range(len(tf.config.list_physical_devices("GPU")))]


def train_strategy(devices: Sequence[str], task: Task | None = None) -> tf.distribute.Strategy | None:
    """Return how several devices train as mirrors of each other, on several machines where there is a task.

    None where there is one device, and for the evaluator, which does not train.
    """
    if task and not task.evaluates:
        return machines.join(task, len(devices))
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
    deterministic: bool = False,
) -> tf.estimator.RunConfig:
    """Return the Estimator's settings; a `strategy` as `train_strategy` gives it, and the `task` it was given.

    `deterministic` makes the operations of this process give the same numbers each time, at some cost of speed;
    on a GPU they do not by themselves. It needs the `seed`.
    """
    if deterministic:
        tensorflow.config.experimental.enable_op_determinism()  # compat.v1 has left it out
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
    params = {
        "config": config,
        "data_format": data_format or default_data_format(),
        "model_scope": "ssd300",
        **params,
    }
    return tf.estimator.Estimator(ssd_model_fn, config=run, params=params)


class Started(tf.train.SessionRunHook):
    """Calls a function once the graph stands and its variables are restored."""

    def __init__(self, call: Callable[[], None]):
        self._call = call

    def after_create_session(self, session: tf.Session, coord: tf.train.Coordinator) -> None:
        """Call it."""
        del session, coord
        self._call()


class _Stop(tf.train.SessionRunHook):
    """Ends the training after the step during which a signal asked for it; the last checkpoint is of that step."""

    def __init__(self, request: StopRequest):
        self._request = request

    def after_run(self, run_context: tf.train.SessionRunContext, run_values: tf.train.SessionRunValues) -> None:
        """Look whether one did."""
        del run_values
        if self._request.signum is not None:
            run_context.request_stop()


class _Checkpoints(tf.train.CheckpointSaverHook):
    """Saves checkpoints; the one that was restored is not written over, in case that is interrupted."""

    def __init__(self, run: tf.estimator.RunConfig, restored_step: int | None):
        super().__init__(run.model_dir, run.save_checkpoints_secs, run.save_checkpoints_steps)
        self._restored_step = restored_step

    def after_create_session(self, session: tf.Session, coord: tf.train.Coordinator) -> None:
        """Save the start; not the graph as text too, which takes seconds: the summaries and each .meta file have it."""
        del coord
        if self._restored_step is None:
            self._save(session, 0)
        self._timer.update_last_triggered_step(self._restored_step or 0)


def train(
    estimator: tf.estimator.Estimator,
    input_fn,
    max_steps: int,
    on_start: Callable[[], None] = lambda: None,
    evaluation: InTraining | None = None,
) -> None:
    """Train until the global step is `max_steps`, from the model directory's newest checkpoint if it has one.

    Args:
      estimator: what is trained.
      input_fn: its input; called again wherever training goes on after an evaluation.
      max_steps: the last step.
      on_start: called when everything has been built and restored: what it writes is not written in vain.
      evaluation: evaluates in between, and may stop the training early.

    Raises:
      Interrupted: SIGINT or SIGTERM ended it, after a step and with a checkpoint.
      ValueError: a checkpoint cannot be read or written.
    """
    first_step = step = checkpoints.step_of(checkpoints.settle(estimator.model_dir))
    check_start(estimator, step, max_steps)
    if evaluation:
        evaluation.begin(step)
    with stop_requests() as request:
        while not _is_over(estimator, step, max_steps, evaluation, request):
            target = min(max_steps, evaluation.next_step(step)) if evaluation else max_steps
            step = _train_to(estimator, input_fn, target, on_start, request)
            # the first to go on has said where it starts from
            estimator = build(**{**estimator.params, "run": estimator.config, "start": None})
    if step > first_step:
        log(f"trained to step {step}; checkpoint and summaries are in {estimator.model_dir}")


def _is_over(estimator, step: int, max_steps: int, evaluation: InTraining | None, request: StopRequest) -> bool:
    """Evaluate if it is time to, and tell whether that was all."""
    if evaluation and evaluation.is_due(step, max_steps):
        state = f"evaluation of step {step} broken off; the same command makes up for it"
        evaluation.run(estimator, checkpoints.resolve(estimator.model_dir), step, lambda: request.check(state))
    return step >= max_steps or bool(evaluation and evaluation.stops_early())


def _train_to(estimator, input_fn, target: int, on_start: Callable[[], None], request: StopRequest) -> int:
    """Train to a step, and return it."""
    own = checkpoints.newest(estimator.model_dir)
    saver = _Checkpoints(estimator.config, None if own is None else checkpoints.step_of(own))
    with writing(estimator.model_dir):
        estimator.train(input_fn, max_steps=target, hooks=[Started(on_start), _Stop(request), saver])
    own = checkpoints.newest(estimator.model_dir)
    step = checkpoints.step_of(own)
    request.check(f"stopped at step {step}; the same command goes on from {own}")
    return step


def check_start(estimator: tf.estimator.Estimator, step: int, max_steps: int) -> None:
    """Say what a training at `step` starts from, unless it is over.

    A ValueError if it is to go on in mixed precision from a checkpoint without a loss scale.
    """
    model_dir = estimator.model_dir
    if step >= max_steps:
        log(f"{model_dir} is at step {step} already: raise --max_number_of_steps to train further")
        return
    own = checkpoints.newest(model_dir)
    if own is None and estimator.params.get("start") is None:
        log("starting from random weights: there is no checkpoint in --model_dir nor in --checkpoint_path")
    if not estimator.params.get("mixed_precision"):
        return
    if own and optimizer.LOSS_SCALE not in dict(tf.train.list_variables(own)):
        raise ValueError(
            f"--mixed_precision: {own} was trained without it and has no loss scale to go on with; leave the flag"
            f" out, or take its weights into another --model_dir: --checkpoint_path={own}"
            f" --checkpoint_model_scope={estimator.params['model_scope']} --checkpoint_exclude_scopes="
        )
    if not gpus():
        log("--mixed_precision: without a GPU, float16 is computed exactly as on one, but slower than float32")


@contextmanager
def writing(model_dir: str) -> Iterator[None]:
    """Tell what to do where checkpoints or summaries could not be written."""
    try:
        yield
    except (tf.errors.OpError, RuntimeError) as error:  # of the threads that write checkpoints and summaries
        reasons = [os.strerror(number) for number in _NOT_WRITTEN]
        told = [line for line in str(error).splitlines() if any(reason in line for reason in reasons)]
        if not told:
            raise
        raise ValueError(
            f"--model_dir={model_dir}: cannot be written to: {told[0].strip()}. The checkpoints"
            " before are whole: make room, and the same command goes on from the newest"
        ) from error


class _Fits(tf.train.SessionRunHook):
    """Holds a checkpoint against the network before TensorFlow restores it."""

    def __init__(self, checkpoint: str):
        self._checkpoint = checkpoint

    def begin(self) -> None:
        """Raise a ValueError if it does not fit."""
        scaffolds.check_fits(self._checkpoint)


def detect(estimator: tf.estimator.Estimator, input_fn, checkpoint: str) -> Iterator[dict[str, np.ndarray]]:
    """Yield one dict an image: what features held but the picture, and the real detections alone.

    `boxes_yxyx` float32 [D, 4] in [0, 1] of the image, `scores` float32 [D] from the highest, `classes` int32 [D].
    A ValueError if the checkpoint is of another network.
    """
    hooks = [_Fits(checkpoint)]
    for batch in estimator.predict(input_fn, hooks=hooks, checkpoint_path=checkpoint, yield_single_examples=False):
        for row in range(len(batch["count"])):
            count = batch["count"][row]
            image = {name: values[row] for name, values in batch.items() if name != "count"}
            yield {**image, **{name: image[name][:count] for name in ("boxes_yxyx", "scores", "classes")}}
