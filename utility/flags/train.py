"""The flags of train_ssd.py, and the config that they ask for."""

from __future__ import annotations

import math
import os
import shlex
from typing import Any

from absl import flags

from utility.config import checks, memory, presets, schedule
from utility.config.settings import BACKBONES, NO_AUGMENTATION, Config
from utility.errors import UserError
from utility.flags import config_flags, groups, numbers, scopes
from utility.run import cluster, processor
from utility.run.cluster import Task

FLAGS = flags.FLAGS

_SETTINGS = (config_flags.NETWORK, config_flags.SIZE, config_flags.OBJECTS, config_flags.TRAINING)


def define() -> None:
    """Define the flags of train_ssd.py."""
    groups.define_data()
    groups.define_device()
    groups.define_model_dir()
    groups.define_model_scope()
    flags.DEFINE_string("preset", Config().preset, f"one of {', '.join(presets.PRESETS)}")
    for settings in _SETTINGS:
        config_flags.define(settings)
    _define_course()
    _define_start()
    _define_replicas()
    flags.DEFINE_boolean("augment", True, "SSD's augmentation; without it the pictures are learnt as they are")
    flags.DEFINE_boolean("skip_empty_images", False, "leave out images without objects")
    flags.DEFINE_boolean(
        "skip_bad_records", False, "leave out broken records; reads and decodes all once, copies go to TMPDIR"
    )


def _define_course() -> None:
    """Define how long a run lasts, and what it logs, saves and evaluates meanwhile."""
    numbers.define_integer(
        "train_epochs",
        None,
        "passes over the data to train for, unless a given max_number_of_steps ends it; the schedule follows",
    )
    numbers.define_integer("eval_every_steps", 0, "steps between two evaluations of the run; 0: none")
    numbers.define_integer("early_stop_evals", 0, "stop after so many evaluations without a better mAP; 0: never")
    numbers.define_integer("log_every_n_steps", 10, "steps between two lines of the log")
    numbers.define_integer(
        "save_summary_steps",
        None,
        "steps between two points of the curves; default: a hundredth of the run, at most 500",
    )
    numbers.define_integer("save_checkpoints_secs", 7200, "seconds between two checkpoints")
    numbers.define_integer("save_checkpoints_steps", None, "steps between two checkpoints, instead of seconds")
    numbers.define_seed("tf_random_seed", 20180503, "seed of the weights, the order of the data and the augmentation")
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
        of_checkpoint=True,
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
    flags.DEFINE_boolean("xla", False, "compile the network with XLA")


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
    config = presets.preset(FLAGS.preset).replace({"class_names": class_names})
    config = config_flags.with_flags(config, *_SETTINGS)
    if not FLAGS.augment:
        config = config.replace({"augment": NO_AUGMENTATION})
    task = cluster.read(os.environ)
    of_this_machine = -(-config.schedule.batch_size // (len(task.trainers) if task else 1))
    memory.check_training(
        checks.check(config),
        of_this_machine,
        "take a smaller --batch_size or --train_image_size, or a larger --accumulate_steps",
        parts=FLAGS.accumulate_steps,
        mixed_precision=FLAGS.mixed_precision and processor.multiplies_bfloat16(),
    )
    return config


def inspect_command() -> str:
    """Return the command that tells what is in the way of finding the objects, with the flags of this one."""
    preset = [f"--preset={FLAGS.preset}"] if FLAGS["preset"].present else []
    asked = [*preset, *config_flags.given(config_flags.NETWORK, config_flags.SIZE, config_flags.OBJECTS)]
    return " ".join(["python dataset/dataset_inspect.py", shlex.quote(f"--data_dir={FLAGS.data_dir}"), *asked])


def with_schedule(config: Config, images: int, pretrained: bool, before: Config | None) -> Config:
    """Return the config with the schedule and loss that --train_epochs and --backbone ask for; what is given stays.

    Args:
      config: as `config_for` returns it.
      images: of the training records.
      pretrained: whether the backbone starts from a checkpoint.
      before: the config of the training that goes on, whose learning rate, clipping and localization weight stay.
    """
    changes: dict[str, Any] = {}
    if FLAGS.train_epochs or config.network.backbone != presets.preset(FLAGS.preset).network.backbone:
        changes |= schedule.suited_to_backbone(config, pretrained)
        changes |= {name: config_flags.value_at(before, name) for name in changes if before}
    changes = {name: value for name, value in changes.items() if not FLAGS[name.partition(".")[2]].present}
    if FLAGS.train_epochs:
        steps = math.ceil(FLAGS.train_epochs * images / config.schedule.batch_size)
        if FLAGS["max_number_of_steps"].present:
            steps = min(steps, FLAGS.max_number_of_steps)
        if not (FLAGS["decay_boundaries"].present or FLAGS["lr_decay_factors"].present):
            changes |= schedule.of_length(presets.preset(FLAGS.preset).schedule, steps)
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
