"""Coordination of the workers of a cluster: joining it, agreeing on what to train, and failing together.

The workers register with TensorFlow's coordination service, which the chief runs. Its heartbeats detect a worker that
dies; but a session that waits for that worker, and TensorFlow's own shutdown, wait for ever. So a thread polls the
service, and ends this process: the steps after the last checkpoint are lost.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import tensorflow.compat.v1 as tf

# the service has no public interface; requirements pin the release
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2 as coordination
from tensorflow.python.eager import context

from utility.run.cluster import Task
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
    with Path(os.devnull).open("w") as nowhere, _killed_by(signal.SIGINT):
        faulthandler.dump_traceback_later(JOIN_TIMEOUT_SECONDS, exit=True, file=nowhere)
        strategy = tf.distribute.experimental.MultiWorkerMirroredStrategy()
        faulthandler.cancel_dump_traceback_later()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the service has installed a handler that ignores it
    return strategy


def check_agreement(task: Task, shared_settings: Mapping[str, object]) -> None:
    """Raise a ValueError on each worker whose values differ from the chief's, given by name.

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
        raise ValueError(
            f"{task.name()} does not start from what {task.name(0)} starts from: {'; '.join(differences)}; all need"
            " the same command, records and number of GPUs, and one --model_dir that all of them see"
        )


@contextmanager
def supervised(task: Task) -> Iterator[None]:
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


def _jobs(task: Task) -> list[tuple[str, int]]:
    return [(kind, len(task.cluster[kind])) for kind in ("chief", "worker") if task.cluster.get(kind)]


@contextmanager
def _killed_by(number: signal.Signals) -> Iterator[None]:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


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


def _stop(failures: Sequence[str]) -> NoReturn:
    text = f"the training stops: {'; '.join(failures)}. The same commands go on from the last checkpoint"
    print(f"error: {text}", file=sys.stderr)
    _end(1)


def _failures(task: Task) -> list[str]:
    states = context.context().get_task_states(_jobs(task))
    failures = []
    for rank, state in enumerate(states):
        if isinstance(state, tf.errors.OpError):
            silent = "heartbeat timeout" in state.message
            failures.append(f"{task.name(rank)} died or cannot be reached" if silent else state.message)
    return failures


def _end(status: int) -> NoReturn:
    """Exit without TensorFlow's shutdown, which would wait for the dead workers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
