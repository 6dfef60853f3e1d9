"""Train SSD on TFRecords made by dataset/convert_tfrecords.py.

  python train_ssd.py --data_dir=dataset/tfrecords --model_dir=logs

The same command goes on from the newest checkpoint in --model_dir. Class names and their number come from
labels.txt in --data_dir.
"""

import math

from utility import config as config_lib
from utility import flags, presets, runtime

FLAGS = flags.FLAGS


def main() -> None:
    """Read the flags, build the config and train."""
    runtime.start_tensorflow()
    from dataset import dataset_common, records  # noqa: PLC0415
    from net import estimator  # noqa: PLC0415
    from utility import checkpoints  # noqa: PLC0415

    shards = records.find_shards(FLAGS.data_dir, records.TRAIN)
    config = _config(dataset_common.class_names(FLAGS.data_dir, FLAGS.num_classes))
    dataset_common.check_labels(shards, config.class_names)
    images = dataset_common.count_images(shards, config, FLAGS.skip_empty_images)
    config = _with_epochs(config, images)
    evaluation = _evaluation(config)
    if checkpoints.settle(FLAGS.model_dir):
        for change in config_lib.check_same_model(config, FLAGS.model_dir):
            runtime.log(f"other than before: {change}")
    devices = estimator.gpus() if FLAGS.multi_gpu else estimator.gpus()[:1]
    runtime.log(
        f"{images} training images of {len(config.class_names)} classes in {FLAGS.data_dir}; preset {config.preset};"
        f" batches of {config.schedule.batch_size} on {f'{len(devices)} GPU(s)' if devices else 'the CPU'}"
    )
    input_fn = dataset_common.training_input_fn(
        shards,
        config,
        FLAGS.tf_random_seed,
        FLAGS.num_readers,
        FLAGS.num_preprocessing_threads,
        FLAGS.deterministic,
        FLAGS.skip_empty_images,
        max(len(devices), 1),
        images,
        lambda: checkpoints.step_of(checkpoints.newest(FLAGS.model_dir)),
    )
    run = estimator.run_config(
        FLAGS.model_dir,
        estimator.session_config(FLAGS.num_cpu_threads, FLAGS.gpu_memory_fraction),
        seed=FLAGS.tf_random_seed,
        save_summary_steps=FLAGS.save_summary_steps,
        save_checkpoints_secs=FLAGS.save_checkpoints_secs,
        save_checkpoints_steps=FLAGS.save_checkpoints_steps,
        devices=devices,
        deterministic=FLAGS.deterministic,
    )
    ssd = estimator.build(
        config,
        run,
        FLAGS.data_format,
        model_scope=FLAGS.model_scope,
        log_every_n_steps=FLAGS.log_every_n_steps,
        images_per_epoch=images,
        start=_start(config),
    )
    steps = config.schedule.max_number_of_steps
    estimator.train(ssd, input_fn, steps, lambda: config_lib.save(config, FLAGS.model_dir), evaluation)


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


def _evaluation(config: config_lib.Config):
    from net import evaluation  # noqa: PLC0415

    if FLAGS.eval_every_steps:
        return evaluation.in_training(
            FLAGS.data_dir, config, FLAGS.model_dir, FLAGS.eval_every_steps, FLAGS.early_stop_evals
        )
    if FLAGS.early_stop_evals:
        raise ValueError(f"--early_stop_evals={FLAGS.early_stop_evals}: give --eval_every_steps too")
    return None


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
