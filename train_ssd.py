"""Train SSD on TFRecords made by dataset/convert_tfrecords.py.

  python train_ssd.py --data_dir=dataset/tfrecords --model_dir=logs

The same command resumes from the newest checkpoint in --model_dir. Class names and their number come from
labels.txt in --data_dir.
"""

import os
from pathlib import Path

from dataset.records import record_files
from dataset.sources.annotations import TRAIN
from utility.config import config_file, schedule
from utility.flags import train as flags
from utility.run import cluster, command
from utility.run.layout import RunLayout
from utility.run.log import log, set_log_prefix
from utility.startup.start import start_tensorflow

FLAGS = flags.FLAGS


def main() -> None:
    """Train, alone or as one process of the cluster that TF_CONFIG names."""
    task = cluster.read(os.environ)
    if task:
        set_log_prefix(task.name())
    writes = task is None or task.is_chief  # checkpoints and summaries

    # What is known before TensorFlow starts, so that a wrong flag is told at once.
    shards = record_files.find_shards(FLAGS.data_dir, TRAIN)
    names = record_files.class_names(FLAGS.data_dir, FLAGS.num_classes)
    config = flags.config_for(names).replace({"views": record_files.views(FLAGS.data_dir)})
    flags.check(task)
    start_tensorflow()
    import tensorflow.compat.v1 as tf

    from dataset.input import Parallelism, training_input_fn, training_records
    from net import coverage, run_config
    from net.layers import precision_of
    from net.periodic_evaluation import PeriodicEvaluation
    from net.training import train
    from net.training_log import FIRST_BATCH
    from utility.checkpoints import checkpoint_files, model_directory
    from utility.checkpoints.warm_start import Resume, starting_point

    # The rest of the config follows from the number of images and from what the training starts from.
    records = training_records(shards, config, FLAGS.skip_empty_images, FLAGS.skip_bad_records)
    start = starting_point(**flags.start(config))
    before = config_file.load(FLAGS.model_dir) if isinstance(start, Resume) else None
    config = flags.with_schedule(config, records.images, start is not None, before)
    last_step = config.schedule.max_number_of_steps

    # Devices.
    devices = () if task and task.evaluates else run_config.gpus() if FLAGS.multi_gpu else run_config.gpus()[:1]
    layout = RunLayout.of(config, devices, FLAGS.accumulate_steps, task)
    if layout.trains and not devices:
        run_config.explain_missing_gpu()

    evaluation = None
    if FLAGS.eval_every_steps or not layout.trains:
        every, patience = FLAGS.eval_every_steps, FLAGS.early_stop_evals
        evaluation = PeriodicEvaluation.of_records(
            config, FLAGS.data_dir, FLAGS.model_dir, every, patience, FLAGS.skip_bad_records
        )
    model_directory.open_for_training(FLAGS.model_dir, config, writes)
    if layout.trains:
        log(
            f"{records.images} training images of {len(names)} classes in {FLAGS.data_dir}; preset {config.preset};"
            f" {layout}; reads {layout.data_shard(records.images_by_file)}"
        )
        log(schedule.described(config))
    if layout.trains and writes:
        coverage.log_if_many_are_lost(records.examples, config, flags.inspect_command())

    # The Estimator.
    strategy = None
    if task and layout.trains:
        from net import workers

        strategy = workers.join(task, len(devices))
    elif layout.replicas > 1:
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


if __name__ == "__main__":
    command.run(main, flags.define)
