"""Train SSD on TFRecords made by dataset/convert_tfrecords.py.

  python train_ssd.py --data_dir=dataset/tfrecords --model_dir=logs

The same command goes on from the newest checkpoint in --model_dir. Class names and their number come from
labels.txt in --data_dir.
"""

import functools
import math
import os

from dataset import records
from utility import config as config_lib
from utility import config_file, flags, presets, runtime, tf_config

FLAGS = flags.FLAGS


def main() -> None:
    """Read the flags, build the config and train, alone or as one of the machines that TF_CONFIG names."""
    task = tf_config.read(os.environ)
    if task:
        runtime.speak_as(task.name())
    shards = records.find_shards(FLAGS.data_dir, records.TRAIN)
    config = _config(records.class_names(FLAGS.data_dir, FLAGS.num_classes))
    _check_flags(task)
    runtime.start_tensorflow()
    from dataset import dataset_common, training_input  # noqa: PLC0415
    from utility import checkpoints  # noqa: PLC0415

    images = training_input.count_images(shards, config, FLAGS.skip_empty_images)
    dataset_common.check_labels(shards, config.class_names)
    config = _with_epochs(config, images)
    evaluation = _evaluation(config, task)
    # those that only read must not put in order what the chief writes meanwhile
    if (checkpoints.settle if task is None or task.is_chief else checkpoints.newest)(FLAGS.model_dir):
        for change in config_file.check_same_model(config, FLAGS.model_dir):
            runtime.log(f"other than before: {change}")
    if task and task.evaluates:
        _evaluate(config, evaluation, task)
    else:
        _train(config, shards, images, evaluation, task)


def _check_flags(task: tf_config.Task | None) -> None:
    """Refuse flags that machines cannot follow together, each having a clock of its own, or that need others."""
    for name in ("eval_every_steps", "early_stop_evals", "save_checkpoints_secs") if task else ():
        if FLAGS[name].present and FLAGS[name].value:
            raise ValueError(
                f"--{name}={FLAGS[name].value}: not with several machines; --save_checkpoints_steps tells when a"
                " checkpoint is written, and the task `evaluator` of TF_CONFIG scores them"
            )
    if FLAGS.early_stop_evals and not FLAGS.eval_every_steps:
        raise ValueError(f"--early_stop_evals={FLAGS.early_stop_evals}: give --eval_every_steps too")


def _train(config: config_lib.Config, shards: list[str], images: int, evaluation, task: tf_config.Task | None) -> None:
    from dataset import training_input  # noqa: PLC0415
    from net import distributed, estimator  # noqa: PLC0415
    from utility import checkpoints, scaffolds  # noqa: PLC0415

    devices = estimator.gpus() if FLAGS.multi_gpu else estimator.gpus()[:1]
    if not estimator.gpus():
        runtime.explain_missing_gpu()
    share = training_input.Share(max(len(devices), 1), FLAGS.accumulate_steps)
    if task:
        workers = len(task.trainers)
        share = share._replace(devices=share.devices * workers, worker=task.rank, workers=workers)
    first_step = lambda: checkpoints.step_of(checkpoints.newest(FLAGS.model_dir))  # noqa: E731
    if task:  # once, while nobody writes
        first_step = functools.cache(first_step)
    input_fn = training_input.training_input_fn(
        shards,
        config,
        FLAGS.tf_random_seed,
        FLAGS.num_readers,
        FLAGS.num_preprocessing_threads,
        FLAGS.deterministic,
        FLAGS.skip_empty_images,
        images,
        first_step,
        share,
    )
    runtime.log(
        f"{images} training images of {len(config.class_names)} classes in {FLAGS.data_dir}; preset {config.preset};"
        f" batches of {config.schedule.batch_size} on {f'{len(devices)} GPU(s)' if devices else 'the CPU'}"
        f"{f' of each of {share.workers} workers' if task else ''}"
    )
    ssd = _estimator(config, estimator.train_strategy(devices, task), task, images)
    steps = config.schedule.max_number_of_steps
    save_config = lambda: config_file.save(config, FLAGS.model_dir)  # noqa: E731
    if task is None:
        estimator.train(ssd, input_fn, steps, save_config, evaluation)
        return
    alike = ("accumulate_steps", "mixed_precision", "model_scope", "skip_empty_images", "tf_random_seed")
    facts = {
        "devices": share.devices,
        "training images": images,
        "record files": len(shards),
        "start": scaffolds.identity(ssd.params["start"]),
        "save_checkpoints_steps": ssd.config.save_checkpoints_steps,
        **{flag: FLAGS[flag].value for flag in alike},
        **config_file.settings(config),
    }
    hooks = [estimator.Started(save_config)] if task.is_chief else []
    distributed.train(ssd, input_fn, first_step, steps, hooks, task, facts)


def _evaluate(config: config_lib.Config, evaluation, task: tf_config.Task) -> None:
    """Be the machine that scores the others' checkpoints."""
    from net import distributed  # noqa: PLC0415

    distributed.evaluate(_estimator(config, None, task), evaluation, config.schedule.max_number_of_steps)


def _estimator(config: config_lib.Config, strategy, task: tf_config.Task | None, images: int | None = None):
    from net import estimator  # noqa: PLC0415

    run = estimator.run_config(
        FLAGS.model_dir,
        estimator.session_config(FLAGS.num_cpu_threads, FLAGS.gpu_memory_fraction),
        seed=FLAGS.tf_random_seed,
        save_summary_steps=FLAGS.save_summary_steps,
        save_checkpoints_secs=FLAGS.save_checkpoints_secs,
        save_checkpoints_steps=FLAGS.save_checkpoints_steps,
        strategy=strategy,
        task=task,
        deterministic=FLAGS.deterministic,
    )
    return estimator.build(
        config,
        run,
        FLAGS.data_format,
        model_scope=FLAGS.model_scope,
        log_every_n_steps=FLAGS.log_every_n_steps,
        images_per_epoch=images,
        start=_start(config),
        accumulate_steps=FLAGS.accumulate_steps,
        mixed_precision=FLAGS.mixed_precision,
        xla=FLAGS.xla,
    )


def _config(class_names: tuple[str, ...]) -> config_lib.Config:
    config = presets.preset(FLAGS.preset).replace({"class_names": class_names})
    config = flags.with_training_flags(config)
    if not FLAGS.augment:
        config = config.replace({"augment": config_lib.NO_AUGMENTATION})
    return config_lib.check(config)


def _with_epochs(config: config_lib.Config, images: int) -> config_lib.Config:
    """Return the config with the end that --train_epochs asks for; the earlier one if both ends are given."""
    if not FLAGS.train_epochs:
        return config
    steps = math.ceil(FLAGS.train_epochs * images / config.schedule.batch_size)
    if FLAGS["max_number_of_steps"].present:
        steps = min(steps, FLAGS.max_number_of_steps)
    return config.replace({"schedule.max_number_of_steps": steps})


def _evaluation(config: config_lib.Config, task: tf_config.Task | None):
    """Return what scores checkpoints here: in between the steps, or on a machine of its own."""
    from net import evaluation  # noqa: PLC0415

    every, patience = FLAGS.eval_every_steps, FLAGS.early_stop_evals
    if task:
        return evaluation.in_training(FLAGS.data_dir, config, FLAGS.model_dir) if task.evaluates else None
    if not every:
        return None
    try:
        return evaluation.in_training(FLAGS.data_dir, config, FLAGS.model_dir, every, patience)
    except ValueError as error:
        raise ValueError(f"--eval_every_steps={every}: {error}") from error


def _start(config: config_lib.Config):
    from utility import scaffolds  # noqa: PLC0415

    backbone = config_lib.BACKBONES[config.network.backbone]
    return scaffolds.starting_point(
        FLAGS.checkpoint_path or backbone.weights,
        optional=FLAGS.checkpoint_path is None,
        model_dir=FLAGS.model_dir,
        config=config,
        checkpoint_scope=backbone.weights_scope
        if FLAGS.checkpoint_model_scope is None
        else FLAGS.checkpoint_model_scope,
        model_scope=FLAGS.model_scope,
        exclude_scopes=tuple(FLAGS.checkpoint_exclude_scopes),
        ignore_missing=FLAGS.ignore_missing_vars,
    )


if __name__ == "__main__":
    runtime.run(main, flags.define_train)
