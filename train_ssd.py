"""Train SSD on TFRecords made by dataset/convert_tfrecords.py.

  python train_ssd.py --data_dir=dataset/tfrecords --model_dir=logs

The same command goes on from the newest checkpoint in --model_dir. Class names and their number come from
labels.txt in --data_dir.
"""

import os

from dataset.records import record_files
from dataset.sources.annotations import TRAIN
from utility import flags_train as flags
from utility.config import config_file
from utility.config import presets as schedule
from utility.config.settings import Config
from utility.run import cluster, command
from utility.run.cluster import Task
from utility.run.layout import RunLayout
from utility.run.log import log, set_log_prefix
from utility.startup.start import start_tensorflow

FLAGS = flags.FLAGS


def main() -> None:
    """Read the flags, build the config and train, alone or as one process of the cluster that TF_CONFIG names."""
    task = cluster.read(os.environ)
    if task:
        set_log_prefix(task.name())
    shards = record_files.find_shards(FLAGS.data_dir, TRAIN)
    names = record_files.class_names(FLAGS.data_dir, FLAGS.num_classes)
    config = flags.config_for(names).replace({"views": record_files.views(FLAGS.data_dir)})
    flags.check(task)
    start_tensorflow()
    _train(shards, config, task)


def _train(shards: list[str], config: Config, task: Task | None) -> None:
    from dataset.input import Parallelism, training_input_fn, training_records
    from net import coverage, training, workers
    from net.periodic_evaluation import PeriodicEvaluation
    from net.workers import plan_layout
    from utility.checkpoints import checkpoint_files, model_directory
    from utility.checkpoints.warm_start import Resume, starting_point

    records = training_records(shards, config, FLAGS.skip_empty_images, FLAGS.skip_bad_records)
    start = starting_point(**flags.start(config))
    before = config_file.load(FLAGS.model_dir) if isinstance(start, Resume) else None
    config = flags.with_schedule(config, records.images, start is not None, before)
    layout = plan_layout(config, FLAGS.multi_gpu, FLAGS.accumulate_steps, task)
    evaluation = None
    if FLAGS.eval_every_steps or not layout.trains:
        every, patience, skip = FLAGS.eval_every_steps, FLAGS.early_stop_evals, FLAGS.skip_bad_records
        evaluation = PeriodicEvaluation.of_records(config, FLAGS.data_dir, FLAGS.model_dir, every, patience, skip)
    model_directory.open_for_training(FLAGS.model_dir, config, writes=task is None or task.is_chief)
    last_step = config.schedule.max_number_of_steps
    if evaluation and not layout.trains:
        workers.evaluate(_estimator(config, layout, start), evaluation, last_step)
        return
    about = f"{records.images} training images of {len(config.class_names)} classes in {FLAGS.data_dir}"
    log(f"{about}; preset {config.preset}; {layout}; reads {layout.data_shard(records.images_by_file)}")
    log(schedule.described(config))
    if task is None or task.is_chief:
        coverage.log_if_many_are_lost(records.examples, config, flags.inspect_command())
    first_step = checkpoint_files.step_reader(FLAGS.model_dir, once=bool(task))
    parallelism = Parallelism(FLAGS.num_readers, FLAGS.num_preprocessing_threads, FLAGS.deterministic)
    input_fn = training_input_fn(records, config, layout, FLAGS.tf_random_seed, first_step, parallelism)
    ssd = _estimator(config, layout, start, records.images)
    with records.faults_named(config):
        if task:
            workers.train(
                ssd, input_fn, last_step, task, first_step, workers.settings_to_agree_on(ssd, layout, records)
            )
        else:
            training.train(ssd, input_fn, last_step, evaluation)


def _estimator(config: Config, layout: RunLayout, start, images: int | None = None):
    from net import run_config, training_log
    from net.layers import precision_of
    from net.workers import train_strategy

    precision = precision_of(FLAGS.mixed_precision)
    summary_steps = FLAGS.save_summary_steps or run_config.suited_summary_steps(config.schedule.max_number_of_steps)
    run = run_config.run_config(
        FLAGS.model_dir,
        run_config.session_config(FLAGS.num_cpu_threads, FLAGS.gpu_memory_fraction, precision),
        run_config.Saving(summary_steps, FLAGS.save_checkpoints_secs, FLAGS.save_checkpoints_steps),
        seed=FLAGS.tf_random_seed,
        deterministic=FLAGS.deterministic,
        task=layout.task,
        strategy=train_strategy(layout),
    )
    params = {name: FLAGS[name].value for name in ("model_scope", "log_every_n_steps", "xla")}
    params |= {
        "precision": precision,
        "start": start,
        "images_per_epoch": images,
        "accumulate_steps": layout.accumulate_steps,
        "first_batch": training_log.path(FLAGS.model_dir, layout.task),
    }
    return run_config.build(config, run, FLAGS.data_format, **params)


if __name__ == "__main__":
    command.run(main, flags.define)
