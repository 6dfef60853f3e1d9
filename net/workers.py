"""Training on several machines: joining a cluster, agreeing on what to train, failing together; and its evaluator.

The workers register with TensorFlow's coordination service, which the chief runs. Its heartbeats detect a worker that
dies; but a session that waits for that worker, and TensorFlow's own shutdown, wait for ever. So a thread polls the
service, and ends this process: the steps after the last checkpoint are lost.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import tensorflow.compat.v1 as tf

# the service has no public interface; requirements pin the release
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2 as coordination
from tensorflow.python.eager import context

from dataset.input import TrainingRecords
from net import curves
from net.periodic_evaluation import PeriodicEvaluation
from net.training import SaveConfig, SaveOnlyFiniteVariables, check_start, explained_write_errors
from utility.checkpoints import checkpoint_files, warm_start
from utility.config import config_file
from utility.errors import UserError
from utility.run.cluster import Task
from utility.run.layout import RunLayout
from utility.run.log import first_line, log

JOIN_TIMEOUT_SECONDS = 600  # how long a worker waits for the others at its start
HEARTBEAT_TIMEOUT_SECONDS = 20  # without a heartbeat, after which a worker counts as dead
BARRIER_TIMEOUT_SECONDS = 600  # how long a worker waits for the others after its last step
_POLL_SECONDS = 1.0
_AGREEMENT_KEY = "ssd/agreement"  # in the service's key-value store


def join(task: Task, gpus: int) -> tf.distribute.Strategy:
    """Wait for all workers of a task's cluster, and return the strategy that trains on all of their devices.

    On this machine it uses the first `gpus` GPUs, or the CPU if that is 0. The process ends with status 1 if not all
    workers have joined within JOIN_TIMEOUT_SECONDS.
    """
    others = ", ".join(task.name(rank) for rank in range(len(task.trainers)) if rank != task.rank)
    log(f"waiting for {others}; gives up after {JOIN_TIMEOUT_SECONDS} s")
    context._reset_context()  # checking the records has created one, which cannot be configured any more
    tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:gpus], "GPU")
    context.context().configure_coordination_service(
        "standalone",
        service_leader="/job:{}/replica:0/task:{}".format(*task.trainers[0]),
        heartbeat_timeout_in_ms=HEARTBEAT_TIMEOUT_SECONDS * 1000,
        coordinated_jobs=[coordination.CoordinatedJob(name=job, num_tasks=number) for job, number in _jobs(task)],
    )
    # TensorFlow waits without a time limit and holds the interpreter lock; only faulthandler's thread still runs
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(JOIN_TIMEOUT_SECONDS, exit=True, file=nowhere)
        strategy = tf.distribute.experimental.MultiWorkerMirroredStrategy()
        faulthandler.cancel_dump_traceback_later()
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the service has installed a handler that ignores it
    return strategy


def train_as_worker(
    estimator: tf.estimator.Estimator,
    input_fn,
    max_steps: int,
    task: Task,
    first_step: Callable[[], int],
    shared_settings: Mapping[str, object],
    hooks: Sequence[tf.train.SessionRunHook] = (),
) -> None:
    """Train until the global step is `max_steps`, as one worker of several; the chief writes the checkpoints.

    Args:
      estimator: built with the strategy of `join`.
      input_fn: gives this worker's images of each batch.
      max_steps: the last step.
      task: which worker this is.
      first_step: gives the step of the chief's checkpoint, once all workers have joined.
      shared_settings: what all workers must start from, by name; see `settings_to_agree_on`.
      hooks: further hooks of this worker's session.

    Raises:
      UserError: this worker starts from something else than the chief.
    """
    with _supervised(task):
        check_agreement(task, {"checkpoint of step": first_step(), **shared_settings})
        check_start(estimator, first_step(), max_steps)
        if first_step() >= max_steps:
            return
        config = estimator.params.config
        own = SaveConfig(config, estimator.model_dir) if task.is_chief else KeepRestoredCheckpoints()
        finite = SaveOnlyFiniteVariables(config.schedule)
        train_spec = tf.estimator.TrainSpec(input_fn, max_steps, [own, finite, *hooks])
        with explained_write_errors(estimator.model_dir):
            tf.estimator.train_and_evaluate(estimator, train_spec, tf.estimator.EvalSpec(input_fn))
    # moving averages are gathered from all replicas by saving, so every worker saves; only the chief's files are kept
    shutil.rmtree(Path(estimator.model_dir, f"tmp_{task.kind}_{task.number}"), ignore_errors=True)
    if task.is_chief:
        curves.draw_again(estimator.model_dir)
    log(f"trained to step {max_steps}; checkpoint and summaries are in {estimator.model_dir}")


class KeepRestoredCheckpoints(tf.train.SessionRunHook):
    """Keeps a worker's saver from deleting the chief's checkpoints, which it has restored, as old ones of its own."""

    def begin(self) -> None:
        """Let the saver not take over the list of the restored checkpoints."""
        for saver in tf.get_collection(tf.GraphKeys.SAVERS):
            saver.recover_last_checkpoints = lambda paths: None


def settings_to_agree_on(
    estimator: tf.estimator.Estimator, layout: RunLayout, records: TrainingRecords
) -> dict[str, object]:
    """Return what all workers must start from, by name: layout, data, start, and every setting."""
    params, run = estimator.params, estimator.config
    return {
        "devices": layout.replicas,
        "accumulate_steps": layout.accumulate_steps,
        "training images": records.images,
        "record files": len(records.images_by_file),
        "skip_empty_images": records.skip_empty_images,
        "start": warm_start.identity(params.start),
        "precision": params.precision.value,
        "model_scope": params.model_scope,
        "tf_random_seed": run.tf_random_seed,
        "save_checkpoints_steps": run.save_checkpoints_steps,
        **config_file.settings(params.config),
    }


def check_agreement(task: Task, shared_settings: Mapping[str, object]) -> None:
    """Raise a UserError on each worker whose values differ from the chief's, given by name.

    Workers with different numbers of devices or steps would wait for each other for ever; with different settings or
    records they would train a mixture of both.
    """
    own = {name: str(value) for name, value in shared_settings.items()}
    if task.is_chief:
        context.context().set_config_key_value(_AGREEMENT_KEY, json.dumps(own))
        return
    try:
        chief = json.loads(context.context().get_config_key_value(_AGREEMENT_KEY))
    except tf.errors.OpError as error:
        _stop(_failures(task) or [first_line(error)])
    differences = [f"{name} {own[name]} instead of {chief.get(name)}" for name in own if own[name] != chief.get(name)]
    if differences:
        raise UserError(
            f"{task.name()} does not start from what {task.name(0)} starts from: {'; '.join(differences)}; all need"
            " the same command, records and number of GPUs, and one --model_dir that all of them see"
        )


@contextmanager
def _supervised(task: Task) -> Iterator[None]:
    """Run a training that all workers take part in: wait for the others at its end, and stop if one of them fails."""
    done = threading.Event()
    threading.Thread(target=_watch, args=(task, done), daemon=True).start()
    try:
        yield
    except BaseException as error:
        done.set()
        with suppress(tf.errors.OpError):  # of two that fail at once, the service takes the word of the first alone
            context.context().report_error_to_cluster(tf.errors.ABORTED, f"{task.name()}: {first_line(error)}")
        atexit.register(_end, 130 if isinstance(error, KeyboardInterrupt) else 1)
        raise
    done.set()
    try:
        context.context().wait_at_barrier("ssd/trained", BARRIER_TIMEOUT_SECONDS * 1000)
    except tf.errors.OpError as error:
        _stop(_failures(task) or [first_line(error)])


def _watch(task: Task, done: threading.Event) -> None:
    answered = time.monotonic()
    while not done.wait(_POLL_SECONDS):
        try:
            failures = _failures(task)
            answered = time.monotonic()
        except tf.errors.OpError:  # the chief, whose process runs the service, does not answer
            late = time.monotonic() - answered > HEARTBEAT_TIMEOUT_SECONDS
            failures = [f"{task.name(0)} has not been heard of for {HEARTBEAT_TIMEOUT_SECONDS} s"] if late else []
        if failures and not done.is_set():
            _stop(failures)


def _failures(task: Task) -> list[str]:
    failures = []
    for rank, state in enumerate(context.context().get_task_states(_jobs(task))):
        if isinstance(state, tf.errors.OpError):
            silent = "heartbeat timeout" in state.message
            failures.append(f"{task.name(rank)} died or cannot be reached" if silent else state.message)
    return failures


def _jobs(task: Task) -> list[tuple[str, int]]:
    return [(kind, len(task.cluster[kind])) for kind in ("chief", "worker") if task.cluster.get(kind)]


def _stop(failures: Sequence[str]) -> NoReturn:
    text = f"the training stops: {'; '.join(failures)}. The same commands resume from the last checkpoint"
    print(f"error: {text}", file=sys.stderr)
    _end(1)


def _end(status: int) -> NoReturn:
    """Exit without TensorFlow's shutdown, which would wait for the dead workers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def evaluate_checkpoints(estimator: tf.estimator.Estimator, evaluation: PeriodicEvaluation, max_steps: int) -> None:
    """Score the newest checkpoint whenever the chief writes one, until that of `max_steps`; keep the best."""
    log(f"waiting for checkpoints in {estimator.model_dir}")
    folder = f"{estimator.model_dir}/tmp_evaluator"
    for checkpoint in tf.train.checkpoints_iterator(estimator.model_dir, min_interval_secs=1):
        try:
            checkpoint_files.copy(checkpoint, folder)  # the chief may delete its own meanwhile
        except FileNotFoundError as error:
            log(f"a checkpoint is not scored: {error}; --save_checkpoints_steps tells how often one is written")
            continue
        copy = checkpoint_files.resolve(folder)
        step = checkpoint_files.step_of(copy)
        evaluation.resume_at(step)
        if not evaluation.has_scored(step):
            losses = estimator.evaluate(evaluation.input_fn, checkpoint_path=copy)
            log(f"step {step}: {', '.join(f'{n} {value:.3f}' for n, value in losses.items() if n != 'global_step')}")
            evaluation.run(estimator, copy, step, lambda: None)
        shutil.rmtree(folder)
        if step >= max_steps:
            return
