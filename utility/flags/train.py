"""The flags of train_ssd.py, and the config that they ask for."""

from __future__ import annotations

import math
import os

from absl import flags

from utility.config import checks, memory, presets
from utility.config.settings import NO_AUGMENTATION, Config
from utility.flags import config_flags, groups, numbers, scopes
from utility.run import cluster
from utility.run.cluster import Task

FLAGS = flags.FLAGS


def define() -> None:
    """Define the flags of train_ssd.py."""
    groups.define_data()
    groups.define_device()
    groups.define_model_dir()
    groups.define_model_scope()
    flags.DEFINE_string("preset", Config().preset, f"one of {', '.join(presets.PRESETS)}")
    config_flags.define({**config_flags.NETWORK, **config_flags.SIZE, **config_flags.TRAINING})
    _define_course()
    _define_start()
    _define_replicas()
    flags.DEFINE_boolean("augment", True, "SSD's augmentation; without it the pictures are learnt as they are")
    flags.DEFINE_boolean("skip_empty_images", False, "leave out images without objects")
    flags.DEFINE_boolean("skip_bad_records", False, "leave out broken records; reads and decodes all once, copies go to TMPDIR")


def _define_course() -> None:
    """Define how long a run lasts, and what it logs, saves and evaluates meanwhile."""
    numbers.define_integer(
        "train_epochs",
        None,
        "passes over the data to train for, unless a given max_number_of_steps ends it",
    )
    numbers.define_integer("eval_every_steps", 0, "steps between two evaluations of the run; 0: none")
    numbers.define_integer("early_stop_evals", 0, "stop after so many evaluations without a better mAP; 0: never")
    numbers.define_integer("log_every_n_steps", 10, "steps between two lines of the log")
    numbers.define_integer("save_summary_steps", 500, "steps between two summaries for TensorBoard")
    numbers.define_integer("save_checkpoints_secs", 7200, "seconds between two checkpoints")
    numbers.define_integer("save_checkpoints_steps", None, "steps between two checkpoints, instead of seconds")
    numbers.define_integer(
        "tf_random_seed", 20180503, "seed of the weights, the order of the data and the augmentation"
    )
    flags.DEFINE_boolean("deterministic", False, "same seed, same batches, at some cost of speed")


def _define_start() -> None:
    """Define which weights a run starts from."""
    flags.DEFINE_string(
        "checkpoint_path",
        None,
        "weights to start from: a checkpoint or its folder; default: ./model, of other backbones ./model/BACKBONE",
    )
    scopes.define_scope(
        "checkpoint_model_scope",
        None,
        "scope of the variables in that checkpoint; default: vgg_16, of other backbones their name",
        may_be_empty=True,
    )
    scopes.define_parts_of_names(
        "checkpoint_exclude_scopes",
        ["ssd300/multibox_head", "ssd300/additional_layers", "ssd300/conv4_3_scale"],
        "scopes that are not loaded from it",
    )
    flags.DEFINE_boolean("ignore_missing_vars", True, "variables that it lacks keep their random start")


def _define_replicas() -> None:
    """Define what computes a step, and how."""
    flags.DEFINE_boolean("multi_gpu", True, "use all visible GPUs")
    numbers.define_integer(
        "accumulate_steps", 1, "parts in which a device computes its images of a batch, to save memory"
    )
    flags.DEFINE_boolean("mixed_precision", False, "compute in float16; variables and loss stay float32")
    flags.DEFINE_boolean("xla", False, "compile the network with XLA")


def check(task: Task | None) -> None:
    """Refuse flags that need others, or that need one clock, which the machines of a cluster do not have."""
    for name in ("eval_every_steps", "early_stop_evals", "save_checkpoints_secs") if task else ():
        if FLAGS[name].present and FLAGS[name].value:
            raise ValueError(
                f"--{name}={FLAGS[name].value}: not with several machines; --save_checkpoints_steps tells when a"
                " checkpoint is written, and the task `evaluator` of TF_CONFIG scores them"
            )
    if FLAGS.early_stop_evals and not FLAGS.eval_every_steps:
        raise ValueError(f"--early_stop_evals={FLAGS.early_stop_evals}: give --eval_every_steps too")


def config_for(class_names: tuple[str, ...]) -> Config:
    """Return the preset for these classes with the settings given; a ValueError names one that cannot work."""
    config = presets.preset(FLAGS.preset).replace({"class_names": class_names})
    config = config_flags.with_flags(config, config_flags.NETWORK, config_flags.SIZE, config_flags.TRAINING)
    if not FLAGS.augment:
        config = config.replace({"augment": NO_AUGMENTATION})
    task = cluster.read(os.environ)
    of_this_machine = -(-config.schedule.batch_size // (len(task.trainers) if task else 1))
    memory.check_batch(checks.check(config), of_this_machine, FLAGS.accumulate_steps)
    return config


def with_epochs(config: Config, images: int) -> Config:
    """Return the config with the last step that --train_epochs asks for; the earlier one if two are given."""
    if not FLAGS.train_epochs:
        return config
    steps = math.ceil(FLAGS.train_epochs * images / config.schedule.batch_size)
    if FLAGS["max_number_of_steps"].present:
        steps = min(steps, FLAGS.max_number_of_steps)
    return config.replace({"schedule.max_number_of_steps": steps})
