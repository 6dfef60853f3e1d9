"""Detect the objects of the validation records, write results_{class id}.txt, and score them.

  python eval_ssd.py --data_dir=dataset/tfrecords --model_dir=logs

Takes the newest checkpoint in --model_dir, with the config and the class names that it was trained with. The
results in {model_dir}/predict are what voc_eval.py reads; of images from COCO they are written in its format too.
"""

from pathlib import Path

from dataset import records
from utility import config as config_lib
from utility import config_file, flags, runtime

FLAGS = flags.FLAGS


def main() -> None:
    """Read the flags, detect, write and score."""
    shards = records.find_shards(FLAGS.data_dir, records.VALIDATION)
    class_names = records.class_names(FLAGS.data_dir, FLAGS.num_classes)
    runtime.start_tensorflow()
    from dataset import coco_results, labels, voc  # noqa: PLC0415
    from net import estimator, evaluation  # noqa: PLC0415
    from utility import checkpoints  # noqa: PLC0415

    checkpoint = checkpoints.resolve(FLAGS.checkpoint_path or FLAGS.model_dir)
    config = _config(checkpoint, class_names)
    coco = coco_results.for_records(FLAGS.data_dir, FLAGS.coco_annotations)
    session = estimator.session_config(FLAGS.num_cpu_threads, FLAGS.gpu_memory_fraction)
    run = estimator.run_config(FLAGS.model_dir, session)
    ssd = estimator.build(config, run, FLAGS.data_format, model_scope=FLAGS.model_scope)
    evaluator = evaluation.Evaluation(shards, config, FLAGS.batch_size, FLAGS.num_preprocessing_threads)
    runtime.log(f"detecting in {evaluator.images} images with {checkpoint}")
    found = evaluator.detect(ssd, checkpoint)
    pred_dir = Path(FLAGS.model_dir) / "predict"
    voc.write_results(pred_dir, found, config.num_classes)
    labels.write_labels(pred_dir / config_lib.LABELS_FILE, config.class_names)
    runtime.log(f"wrote results_1.txt to results_{config.num_classes - 1}.txt in {pred_dir}")
    if coco:
        runtime.log("\n".join(coco.finish(pred_dir, found)))
    evaluator.score(found)


def _config(checkpoint: str, class_names: tuple[str, ...]) -> config_lib.Config:
    """Return the config that the checkpoint was trained with, its classes held against the data set's."""
    folder = Path(checkpoint).parent
    config = config_file.load(str(folder)) or config_lib.Config(class_names=class_names)
    if config.class_names != class_names:
        raise ValueError(
            f"{folder / config_file.CONFIG_FILE} has the classes {', '.join(config.class_names)}, but --data_dir="
            f"{FLAGS.data_dir} has {', '.join(class_names)}: evaluate on the data set that it was trained on"
        )
    return config_lib.check(flags.with_detection_flags(config))


if __name__ == "__main__":
    runtime.run(main, flags.define_eval)
