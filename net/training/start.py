"""What a training starts from."""

from __future__ import annotations

import tensorflow.compat.v1 as tf

from net.estimator import optimizer
from net.estimator.precision import Precision
from utility.checkpoints import checkpoint_files
from utility.run.log import log


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
    if estimator.params.get("precision") is not Precision.FLOAT16:
        return
    if own and optimizer.LOSS_SCALE not in dict(tf.train.list_variables(own)):
        raise ValueError(
            f"--mixed_precision: {own} was trained without it and has no loss scale to go on with; leave the flag"
            f" out, or take its weights into another --model_dir: --checkpoint_path={own}"
            f" --checkpoint_model_scope={estimator.params['model_scope']} --checkpoint_exclude_scopes="
        )
