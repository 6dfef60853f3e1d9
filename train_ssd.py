"""Train SSD on TFRecords made by dataset/convert_tfrecords.py.

  python train_ssd.py --data_dir=dataset/tfrecords --model_dir=logs

The same command resumes from the newest checkpoint in --model_dir. Class names and their number come from
labels.txt in --data_dir.
"""

import math
import os
import shlex
from operator import attrgetter
from pathlib import Path
from typing import Annotated

from absl import flags
from msgspec import Meta

from dataset.records import record_files
from dataset.sources.annotations import TRAIN
from utility.config import checks, config_file, presets
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
from utility.run import cluster, command
from utility.run.layout import RunLayout
from utility.run.log import log, set_log_prefix
from utility.startup.start import start_tensorflow


def define_flags() -> None:
    """Define the flags."""
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
    start = "weights to start from: a checkpoint or its folder, of ImageNet or of another training of this project"
    start += "; default: ./model, of other backbones ./model/BACKBONE"
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


def main() -> None:
    """Train, alone or as one process of the cluster that TF_CONFIG names."""
    task = cluster.read(os.environ)
    if task:
        set_log_prefix(task.name())
    writes = task is None or task.is_chief  # checkpoints and summaries

    # Config, records and flags: all that can be wrong before TensorFlow starts.
    shards = record_files.find_shards(FLAGS.data_dir, TRAIN)
    names = record_files.class_names(FLAGS.data_dir, FLAGS.num_classes)
    of_records = {
        "views": record_files.views(FLAGS.data_dir),
        "pixel_extent": record_files.pixel_extent(FLAGS.data_dir),
    }
    config = asked_config(names, NETWORK, TRAINING).replace(of_records)
    if not FLAGS.augment:
        config = config.replace({"augment": NO_AUGMENTATION})
    for name in ("eval_every_steps", "early_stop_evals", "save_checkpoints_secs") if task else ():
        if FLAGS[name].present and FLAGS[name].value:  # the machines of a cluster have no common clock
            raise UserError(
                f"--{name}={FLAGS[name].value}: not with several machines; --save_checkpoints_steps tells when a"
                " checkpoint is written, and the task `evaluator` of TF_CONFIG scores them"
            )
    if FLAGS.early_stop_evals and not FLAGS.eval_every_steps:
        raise UserError(f"--early_stop_evals={FLAGS.early_stop_evals}: give --eval_every_steps too")
    start_tensorflow()
    import tensorflow.compat.v1 as tf

    from dataset.input import Parallelism, training_input_fn, training_records
    from net import coverage, run_config
    from net.devices import explain_missing_gpu, gpus, precision_of
    from net.training import train
    from net.training_log import FIRST_BATCH
    from utility.checkpoints import checkpoint_files
    from utility.checkpoints.warm_start import Resume, Scopes, starting_point

    # What the training starts from: its own checkpoint, other weights, or random ones. The schedule depends on it.
    records = training_records(shards, config, FLAGS.skip_empty_images, FLAGS.skip_bad_records)
    backbone = BACKBONES[config.network.backbone]
    weights_scope = backbone.weights_scope if FLAGS.checkpoint_model_scope is None else FLAGS.checkpoint_model_scope
    start = starting_point(
        FLAGS.checkpoint_path or backbone.weights,
        optional=FLAGS.checkpoint_path is None,
        whole_detector=FLAGS.checkpoint_model_scope is None and not FLAGS["checkpoint_exclude_scopes"].present,
        scopes=Scopes(weights_scope, FLAGS.model_scope, tuple(FLAGS.checkpoint_exclude_scopes)),
        ignore_missing=FLAGS.ignore_missing_vars,
        model_dir=FLAGS.model_dir,
        config=config,
    )
    before = config_file.load(FLAGS.model_dir) if isinstance(start, Resume) else None
    config = scheduled(config, records.images, start is not None, before)
    last_step = config.schedule.max_number_of_steps

    # Devices.
    devices = () if task and task.evaluates else gpus() if FLAGS.multi_gpu else gpus()[:1]
    layout = RunLayout.of(config, devices, FLAGS.accumulate_steps, task)
    if layout.trains and not devices:
        explain_missing_gpu()

    evaluation = None
    if FLAGS.eval_every_steps or not layout.trains:
        from net.periodic_evaluation import PeriodicEvaluation

        every, patience = FLAGS.eval_every_steps, FLAGS.early_stop_evals
        evaluation = PeriodicEvaluation(
            config, FLAGS.data_dir, FLAGS.model_dir, every, patience, FLAGS.skip_bad_records
        )
    checkpoint_files.open_for_training(FLAGS.model_dir, config, writes)
    if layout.trains:
        log(
            f"{records.images} training images of {len(names)} classes in {FLAGS.data_dir}; preset {config.preset};"
            f" {layout}; reads {layout.data_shard(records.images_by_file)}"
        )
        log(presets.described(config))
    if layout.trains and writes:
        data_dir = shlex.quote(f"--data_dir={FLAGS.data_dir}")
        inspect = " ".join(["python dataset/dataset_inspect.py", data_dir, *as_typed("preset", *NETWORK)])
        coverage.log_if_many_are_lost(records.examples, config, inspect)

    # The Estimator.
    strategy = None
    if task and layout.trains:
        from net import workers

        strategy = workers.join(task, len(devices))
    elif layout.trains and layout.replicas > 1:
        strategy = tf.distribute.MirroredStrategy(devices)
    precision = precision_of(FLAGS.mixed_precision)
    run = run_config.run_config(
        FLAGS.model_dir,
        run_config.session_config(FLAGS.num_cpu_threads, FLAGS.gpu_memory_fraction, precision),
        last_step=last_step,
        summary_steps=FLAGS.save_summary_steps,
        checkpoint_seconds=FLAGS.save_checkpoints_secs,
        checkpoint_steps=FLAGS.save_checkpoints_steps,
        seed=FLAGS.tf_random_seed,
        deterministic=FLAGS.deterministic,
        task=task,
        strategy=strategy,
    )
    ssd = run_config.build(
        config,
        run,
        FLAGS.data_format,
        model_scope=FLAGS.model_scope,
        precision=precision,
        start=start,
        log_every_n_steps=FLAGS.log_every_n_steps,
        images_per_epoch=records.images,
        accumulate_steps=layout.accumulate_steps,
        xla=FLAGS.xla,
        # none in a cluster: all its workers must run the same graph
        first_batch=None if task else str(Path(FLAGS.model_dir, FIRST_BATCH)),
    )

    # Train.
    if evaluation and not layout.trains:
        from net import workers

        workers.evaluate_checkpoints(ssd, evaluation, last_step)
        return
    first_step = checkpoint_files.step_reader(FLAGS.model_dir, once=bool(task))
    parallelism = Parallelism(FLAGS.num_readers, FLAGS.num_preprocessing_threads, FLAGS.deterministic)
    input_fn = training_input_fn(records, config, layout, FLAGS.tf_random_seed, first_step, parallelism)
    with records.faults_named(config):
        if task:
            agreed = workers.settings_to_agree_on(ssd, layout, records)
            workers.train_as_worker(ssd, input_fn, last_step, task, first_step, agreed)
        else:
            train(ssd, input_fn, last_step, evaluation)


def scheduled(config: Config, images: int, pretrained: bool, before: Config | None) -> Config:
    """Return the config with the schedule and loss that --train_epochs and --backbone ask for; what is given stays.

    Args:
      config: of the flags.
      images: of the training records.
      pretrained: whether the backbone starts from a checkpoint.
      before: the config of a resumed run, whose learning rate, clipping and localization weight stay; None: a new run.
    """
    changes: dict = {}
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


if __name__ == "__main__":
    command.run(main, define_flags)
