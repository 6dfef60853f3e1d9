"""Training on several machines: TensorFlow's MultiWorkerMirroredStrategy, and what happens when one fails.

The workers meet in TensorFlow's coordination service, which the chief runs. Its heartbeats tell of a worker that
dies; but TensorFlow leaves a session that waits for that worker waiting for ever, and its own end too. So a
thread asks the service, and ends this process: what is lost is what came after the last checkpoint.
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
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import tensorflow.compat.v1 as tf

# the service has no public interface; requirements pin the release
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2 as coordination
from tensorflow.python.eager import context

from utility.run.cluster import Task
from utility.run.log import first_line, log

JOIN_SECONDS = 600  # that a worker waits for the others when it starts
SILENCE_SECONDS = 20  # after which a worker that is not heard of is taken for dead
END_SECONDS = 600  # that a worker waits for the others when it has done its part
_ASK_SECONDS = 1.0


def join(task: Task, gpus: int) -> tf.distribute.Strategy:
    """Wait for all workers of a task's cluster, and return the strategy that trains on all of their devices.

    Of this machine it takes the first `gpus` GPUs, or the CPU.

    The process ends with status 1 when not all of them have come within JOIN_SECONDS.
    """
    others = ", ".join(task.name(rank) for rank in range(len(task.trainers)) if rank != task.rank)
    log(f"waiting for {others}; gives up after {JOIN_SECONDS} s")
    context._reset_context()  # what has checked the records by now has started it, and it can only be told before
    tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:gpus], "GPU")
    context.context().configure_coordination_service(
        "standalone",
        service_leader="/job:{}/replica:0/task:{}".format(*task.trainers[0]),
        heartbeat_timeout_in_ms=SILENCE_SECONDS * 1000,
        coordinated_jobs=[coordination.CoordinatedJob(name=job, num_tasks=number) for job, number in _jobs(task)],
    )
    # TensorFlow waits without an end and without letting other threads run, this one excepted
    with Path(os.devnull).open("w") as nowhere, _killed_by(signal.SIGINT):
        faulthandler.dump_traceback_later(JOIN_SECONDS, exit=True, file=nowhere)
        strategy = tf.distribute.experimental.MultiWorkerMirroredStrategy()
        faulthandler.cancel_dump_traceback_later()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the service takes it for a notice, and goes on
    return strategy


def check_agreement(task: Task, facts: Mapping[str, object]) -> None:
    """Raise a ValueError, on all workers but the chief, where they do not start from the chief's facts.

    Workers that differ in their number of devices or steps would wait for each other for ever; in settings or
    records, they would train something that nobody asked for.
    """
    own = {name: str(value) for name, value in facts.items()}
    if task.is_chief:
        context.context().set_config_key_value("ssd/facts", json.dumps(own))
        return
    try:
        chief = json.loads(context.context().get_config_key_value("ssd/facts"))
    except tf.errors.OpError as error:
        _stop(_failures(task) or [first_line(error)])
    differences = [f"{name} {own[name]} instead of {chief[name]}" for name in own if own[name] != chief[name]]
    if differences:
        raise ValueError(
            f"{task.name()} does not start from what {task.name(0)} starts from: {'; '.join(differences)}; all need"
            " the same command, records and number of GPUs, and one --model_dir that all of them see"
        )


@contextmanager
def supervised(task: Task) -> Iterator[None]:
    """Do something that all workers take part in: end with the others, or at once where one of them fails."""
    done = threading.Event()
    threading.Thread(target=_watch, args=(task, done), daemon=True).start()
    try:
        yield
    except BaseException as error:
        done.set()
        context.context().report_error_to_cluster(tf.errors.ABORTED, f"{task.name()}: {first_line(error)}")
        atexit.register(_end, 130 if isinstance(error, KeyboardInterrupt) else 1)
        raise
    done.set()
    try:
        context.context().wait_at_barrier("ssd/trained", END_SECONDS * 1000)
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
    heard = time.monotonic()
    while not done.wait(_ASK_SECONDS):
        try:
            failures = _failures(task)
            heard = time.monotonic()
        except tf.errors.OpError:  # the chief does not answer, for whom the service ends with its process
            late = time.monotonic() - heard > SILENCE_SECONDS
            failures = [f"{task.name(0)} has not been heard of for {SILENCE_SECONDS} s"] if late else []
        if failures and not done.is_set():
            _stop(failures)


def _stop(failures: Sequence[str]) -> NoReturn:
    text = f"the training stops: {'; '.join(failures)}. The same commands go on from the last checkpoint"
    print(f"error: {text}", file=sys.stderr)
    _end(1)


def _failures(task: Task) -> list[str]:
    states = context.context().get_task_states(_jobs(task))
    found = []
    for rank, state in enumerate(states):
        if isinstance(state, tf.errors.OpError):
            silent = "heartbeat timeout" in state.message
            found.append(f"{task.name(rank)} died or cannot be reached" if silent else state.message)
    return found


def _end(status: int) -> NoReturn:
    """Leave without TensorFlow's own end, which waits for the workers that there are no more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
