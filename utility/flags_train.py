"""The flags of train_ssd.py, and the config that they ask for."""

from __future__ import annotations

import math
import shlex
from operator import attrgetter
from typing import Annotated, Any

from absl import flags
from msgspec import Meta

from utility.config import checks, presets
from utility.config.settings import BACKBONES, NO_AUGMENTATION, Config, Count, Steps, StepsOr0
from utility.errors import UserError
from utility.flags import (
    FLAGS,
    NETWORK,
    TRAINING,
    as_typed,
    asked_config,
    define_data,
    define_device,
    define_model_dir,
    define_number,
    define_preset,
    define_scope,
)
from utility.run.cluster import Task


def define() -> None:
    """Define the flags of train_ssd.py."""
    define_data()
    define_device()
    define_model_dir()
    define_preset({**NETWORK, **TRAINING})
    # how long a run lasts, and what it logs, saves and evaluates meanwhile
    epochs = "passes over the data to train for, unless a given max_number_of_steps ends it; the schedule follows"
    define_number("train_epochs", Annotated[int, Meta(ge=1, le=10**6)], None, epochs)
    define_number("eval_every_steps", StepsOr0, 0, "steps between two evaluations of the run; 0: none")
    define_number("early_stop_evals", StepsOr0, 0, "stop after so many evaluations without a better mAP; 0: never")
    define_number("log_every_n_steps", Steps, 10, "steps between two lines of the log")
    points = "steps between two points of the curves; default: a hundredth of the run, at most 500"
    define_number("save_summary_steps", Steps, None, points)
    seconds = Annotated[int, Meta(ge=1, le=10**9)]
    define_number("save_checkpoints_secs", seconds, 7200, "seconds between two checkpoints")
    define_number("save_checkpoints_steps", Steps, None, "steps between two checkpoints, instead of seconds")
    seeded = "seed of the weights, the order of the data and the augmentation"
    flags.DEFINE_integer("tf_random_seed", 20180503, seeded, lower_bound=-(2**63), upper_bound=2**63 - 1)
    flags.DEFINE_boolean("deterministic", False, "same seed, same batches, at some cost of speed")
    # which weights a run starts from
    start = "weights to start from: a checkpoint or its folder; default: ./model, of other backbones ./model/BACKBONE"
    flags.DEFINE_string("checkpoint_path", None, start)
    scope = "scope of the variables in that checkpoint; default: vgg_16, of other backbones their name"
    define_scope("checkpoint_model_scope", None, scope)
    excluded = ["ssd300/multibox_head", "ssd300/additional_layers", "ssd300/conv4_3_scale"]
    flags.DEFINE_list("checkpoint_exclude_scopes", excluded, "scopes that are not loaded from it")
    flags.register_validator("checkpoint_exclude_scopes", all, "must be scopes separated by single commas")
    flags.DEFINE_boolean("ignore_missing_vars", True, "variables that it lacks keep their random start")
    # what computes a step, and how
    flags.DEFINE_boolean("multi_gpu", True, "use all visible GPUs")
    parts = "parts in which a device computes its images of a batch, to save memory"
    define_number("accumulate_steps", Count, 1, parts)
    flags.DEFINE_boolean("xla", False, "compile the network with XLA")
    flags.DEFINE_boolean("augment", True, "SSD's augmentation; without it the pictures are learnt as they are")
    flags.DEFINE_boolean("skip_empty_images", False, "leave out images without objects")


def check(task: Task | None) -> None:
    """Refuse flags that need others, or that need one clock, which the machines of a cluster do not have."""
    for name in ("eval_every_steps", "early_stop_evals", "save_checkpoints_secs") if task else ():
        if FLAGS[name].present and FLAGS[name].value:
            raise UserError(
                f"--{name}={FLAGS[name].value}: not with several machines; --save_checkpoints_steps tells when a"
                " checkpoint is written, and the task `evaluator` of TF_CONFIG scores them"
            )
    if FLAGS.early_stop_evals and not FLAGS.eval_every_steps:
        raise UserError(f"--early_stop_evals={FLAGS.early_stop_evals}: give --eval_every_steps too")


def config_for(class_names: tuple[str, ...]) -> Config:
    """Return the preset for these classes with the settings given; a UserError names one that cannot work."""
    config = asked_config(class_names, NETWORK, TRAINING)
    return config if FLAGS.augment else config.replace({"augment": NO_AUGMENTATION})


def inspect_command() -> str:
    """Return the command that tells what is in the way of finding the objects, with the flags of this one."""
    data_dir = shlex.quote(f"--data_dir={FLAGS.data_dir}")
    return " ".join(["python dataset/dataset_inspect.py", data_dir, *as_typed("preset", *NETWORK)])


def with_schedule(config: Config, images: int, pretrained: bool, before: Config | None) -> Config:
    """Return the config with the schedule and loss that --train_epochs and --backbone ask for; what is given stays.

    Args:
      config: as `config_for` returns it.
      images: of the training records.
      pretrained: whether the backbone starts from a checkpoint.
      before: the config of a resumed run, whose learning rate, clipping and localization weight stay; None: a new run.
    """
    changes: dict[str, Any] = {}
    if FLAGS.train_epochs or config.network.backbone != presets.preset(FLAGS.preset).network.backbone:
        changes |= presets.suited_to_backbone(config, pretrained)
        changes |= {name: attrgetter(name)(before) for name in changes if before}
    changes = {name: value for name, value in changes.items() if not FLAGS[name.partition(".")[2]].present}
    if FLAGS.train_epochs:
        steps = math.ceil(FLAGS.train_epochs * images / config.schedule.batch_size)
        if FLAGS["max_number_of_steps"].present:
            steps = min(steps, FLAGS.max_number_of_steps)
        if not (FLAGS["decay_boundaries"].present or FLAGS["lr_decay_factors"].present):
            changes |= presets.of_length(presets.preset(FLAGS.preset).schedule, steps)
        changes["schedule.max_number_of_steps"] = steps
    return checks.check(config.replace(changes))


def start(config: Config) -> dict[str, Any]:
    """Return the arguments of `utility.checkpoints.warm_start.starting_point`."""
    backbone = BACKBONES[config.network.backbone]
    scope = backbone.weights_scope if FLAGS.checkpoint_model_scope is None else FLAGS.checkpoint_model_scope
    return {
        "path": FLAGS.checkpoint_path or backbone.weights,
        "optional": FLAGS.checkpoint_path is None,
        "scopes": (scope, FLAGS.model_scope, tuple(FLAGS.checkpoint_exclude_scopes)),
        "ignore_missing": FLAGS.ignore_missing_vars,
        "model_dir": FLAGS.model_dir,
        "config": config,
    }
