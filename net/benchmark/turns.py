"""Timing several parts of a program in turns, so that what else the machine does slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from net.estimator.precision import Precision
from net.estimator.run_config import session_config
from utility.run.log import log


class Turns(NamedTuple):
    """How much is timed: so many turns, each of so many batches, with what the network computes in."""

    batch_size: int
    batches: int
    turns: int
    precision: Precision = Precision.FLOAT32

    def time(self, parts: Mapping[str, Callable[[], Any]], warm_up: int = 0) -> dict[str, float]:
        """Build each part in a graph of its own, run them in turns, and return the median seconds an image of each.

        A turn starts with `warm_up` batches that do not count. A part returns what a session fetches.
        """
        runners = {name: _runner(build, self.precision) for name, build in parts.items()}
        seconds: dict[str, list[float]] = {name: [] for name in parts}
        for _ in range(self.turns):
            for name, run in runners.items():
                for _ in range(warm_up):
                    run()
                start = time.perf_counter()
                for _ in range(self.batches):
                    run()
                seconds[name].append((time.perf_counter() - start) / self.batches / self.batch_size)
        for name, values in seconds.items():
            log(f"{name}: {', '.join(f'{1000 * value:.2f}' for value in values)} ms/image")
        return {name: statistics.median(values) for name, values in seconds.items()}


def _runner(build: Callable[[], Any], precision: Precision) -> Callable[[], Any]:
    with tf.Graph().as_default() as graph:
        fetches = build()
        initialize = tf.global_variables_initializer()
    session = tf.Session(graph=graph, config=session_config(precision=precision))
    session.run(initialize)
    session.run(fetches)  # the first run plans memory and picks kernels
    return lambda: session.run(fetches)
