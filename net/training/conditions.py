"""What a training must find: a checkpoint that it can go on from, and a model directory that takes what it writes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow.compat.v1 as tf

from net.estimator import optimizer
from net.estimator.run_config import gpus
from utility.checkpoints import checkpoint_files
from utility.run.log import log

# why a file that could be opened cannot be written
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def check_start(estimator: tf.estimator.Estimator, step: int, max_steps: int) -> None:
    """Log what a training at `step` starts from, where nothing else does.

    A ValueError if mixed precision is to go on from a checkpoint without a loss scale.
    """
    model_dir = estimator.model_dir
    if step >= max_steps:
        log(f"{model_dir} is at step {step} already: raise --max_number_of_steps to train further")
        return
    own = checkpoint_files.newest(model_dir)
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
def explained_write_errors(model_dir: str) -> Iterator[None]:
    """Turn a failure to write checkpoints or summaries, such as a full disk, into a ValueError with the remedy."""
    try:
        yield
    except (tf.errors.OpError, RuntimeError) as error:  # of the threads that write checkpoints and summaries
        reasons = [os.strerror(number) for number in _WRITE_ERRORS]
        lines = [line for line in str(error).splitlines() if any(reason in line for reason in reasons)]
        if not lines:
            raise
        raise ValueError(
            f"--model_dir={model_dir}: cannot be written to: {lines[0].strip()}. The checkpoints"
            " before are whole: make room, and the same command goes on from the newest"
        ) from error
