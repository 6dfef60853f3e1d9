"""Train SSD on TFRecords made by dataset/convert_tfrecords.py.

  python train_ssd.py --data_dir=dataset/tfrecords --model_dir=logs

The same command goes on from the newest checkpoint in --model_dir. Class names and their number come from
labels.txt in --data_dir.
"""

import math
import os

from utility import config as config_lib
from utility import flags, presets, runtime, tf_config

FLAGS = flags.FLAGS
EVALUATION_BATCH = 8  # images at once, where a machine of its own evaluates


def main() -> None:
    """Read the flags, build the config and train."""
    task = tf_config.read(os.environ)
    if task:
        runtime.speak_as(task.name())
    runtime.start_tensorflow()
    from dataset import dataset_common, records  # noqa: PLC0415
    from net import distributed, estimator  # noqa: PLC0415

    shards = records.find_shards(FLAGS.data_dir, records.TRAIN)
    images = dataset_common.count_records(shards)
    config = _config(dataset_common.class_names(FLAGS.data_dir, FLAGS.num_classes), images)
    if estimator.has_checkpoint(FLAGS.model_dir):
        config_lib.check_same_model(config, FLAGS.model_dir)
    steps = config.schedule.max_number_of_steps
    if task and task.evaluates:
        shards = records.find_shards(FLAGS.data_dir, records.VALIDATION)
        input_fn = dataset_common.eval_input_fn(shards, config, EVALUATION_BATCH, FLAGS.num_preprocessing_threads)
        distributed.evaluate(_estimator(config, None, task), input_fn, steps)
        return
    devices = estimator.gpus() if FLAGS.multi_gpu else estimator.gpus()[:1]
    workers = len(task.trainers) if task else 1
    input_fn = dataset_common.training_input_fn(
        shards,
        config,
        FLAGS.tf_random_seed,
        FLAGS.num_readers,
        FLAGS.num_preprocessing_threads,
        FLAGS.deterministic,
        FLAGS.skip_empty_images,
        replicas=max(len(devices), 1) * workers,
        parts=FLAGS.accumulate_steps,
        worker=task.rank if task else 0,
        workers=workers,
    )
    runtime.log(
        f"{images} training images of {len(config.class_names)} classes in {FLAGS.data_dir}; preset {config.preset};"
        f" batches of {config.schedule.batch_size} on {f'{len(devices)} GPU(s)' if devices else 'the CPU'}"
        f"{f' of each of {workers} workers' if task else ''}"
    )
    ssd = _estimator(config, estimator.train_strategy(devices, task), task)
    save_config = lambda: config_lib.save(config, FLAGS.model_dir)  # noqa: E731
    if task is None:
        estimator.train(ssd, input_fn, steps, save_config)
    else:
        facts = {
            "devices": max(len(devices), 1),
            "training images": images,
            **{flag: FLAGS[flag].value for flag in ("accumulate_steps", "mixed_precision", "tf_random_seed")},
            **config_lib.settings(config),
        }
        hooks = [estimator.Started(save_config)] if task.is_chief else []
        distributed.train(ssd, input_fn, steps, hooks, task, facts)


def _estimator(config: config_lib.Config, strategy, task: tf_config.Task | None):
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
    )
    return estimator.build(
        config,
        run,
        FLAGS.data_format,
        model_scope=FLAGS.model_scope,
        log_every_n_steps=FLAGS.log_every_n_steps,
        start=_start(config),
        accumulate_steps=FLAGS.accumulate_steps,
        mixed_precision=FLAGS.mixed_precision,
        xla=FLAGS.xla,
    )


def _config(class_names: tuple[str, ...], images: int) -> config_lib.Config:
    config = presets.preset(FLAGS.preset).replace({"class_names": class_names})
    config = flags.with_training_flags(config)
    if not FLAGS.augment:
        config = config.replace({"augment": config_lib.NO_AUGMENTATION})
    if FLAGS.train_epochs:
        steps = math.ceil(FLAGS.train_epochs * images / config.schedule.batch_size)
        config = config.replace({"schedule.max_number_of_steps": steps})
    return config_lib.check(config)


def _start(config: config_lib.Config):
    from utility import scaffolds  # noqa: PLC0415

    backbone = config_lib.BACKBONES[config.network.backbone]
    return scaffolds.starting_point(
        FLAGS.checkpoint_path or backbone.weights,
        optional=FLAGS.checkpoint_path is None,
        model_dir=FLAGS.model_dir,
        checkpoint_scope=backbone.weights_scope
        if FLAGS.checkpoint_model_scope is None
        else FLAGS.checkpoint_model_scope,
        model_scope=FLAGS.model_scope,
        exclude_scopes=tuple(FLAGS.checkpoint_exclude_scopes),
        ignore_missing=FLAGS.ignore_missing_vars,
    )


if __name__ == "__main__":
    runtime.run(main, flags.define_train)
