"""Detect the objects of the validation records, write results_{class id}.txt, and score them.

  python eval_ssd.py --data_dir=dataset/tfrecords --model_dir=logs

Takes the newest checkpoint in --model_dir, with the config and the class names that it was trained with. The
results in {model_dir}/predict are what voc_eval.py reads, and eval_output/report.html there shows them; of images from
COCO they are written in its format too.
"""

from functools import partial
from pathlib import Path

from absl import flags

from dataset.records import record_files
from dataset.sources.annotations import VALIDATION
from utility.config.config_file import CONFIG_FILE
from utility.config.settings import LABELS_FILE, Count
from utility.errors import UserError
from utility.flags import FLAGS, define_data, define_device, define_model_dir, define_number
from utility.run import command
from utility.run.log import log
from utility.startup.start import start_tensorflow
from utility.trained_network import config_beside, define_detection, trained_config

# flags of the reference's eval_ssd.py that its commands may carry, and that have nothing to set in detection
_WITHOUT_EFFECT = ["log_every_n_steps", "save_summary_steps", "train_epochs"]
_WITHOUT_EFFECT += ["negative_ratio", "match_threshold", "neg_threshold"]


def define_flags() -> None:
    """Define the flags."""
    define_data()
    define_device()
    define_model_dir()
    define_detection()
    define_number("batch_size", Count, 8, "images at once")
    flags.DEFINE_string("checkpoint_path", None, "a checkpoint or its folder, instead of model_dir's newest")
    flags.DEFINE_string("coco_annotations", None, "of images from COCO: their instances JSON, to score by COCO's rules")
    for name in _WITHOUT_EFFECT:
        flags.DEFINE_string(name, None, "of the reference's evaluation; has no effect here")


def main() -> None:
    """Read the flags, detect, write and score."""
    shards = record_files.find_shards(FLAGS.data_dir, VALIDATION)
    class_names = record_files.class_names(FLAGS.data_dir, FLAGS.num_classes)
    config_beside(FLAGS.checkpoint_path or FLAGS.model_dir)  # a broken config.json is refused before TensorFlow starts
    start_tensorflow()
    from dataset.contents import pictures_of
    from dataset.report.page import write_report
    from dataset.scores import coco_results, voc_results
    from dataset.sources import labels
    from net.devices import precision_of
    from net.evaluation import Evaluation
    from net.run_config import build, run_config, session_config
    from utility.checkpoints import checkpoint_files

    checkpoint = checkpoint_files.resolve(FLAGS.checkpoint_path or FLAGS.model_dir)
    config = trained_config(checkpoint, class_names)
    if config.class_names != class_names:
        raise UserError(
            f"{Path(checkpoint).parent / CONFIG_FILE} has the classes {', '.join(config.class_names)}, but --data_dir="
            f"{FLAGS.data_dir} has {', '.join(class_names)}: evaluate on the data set that it was trained on"
        )
    config = config.replace({"pixel_extent": record_files.pixel_extent(FLAGS.data_dir)})
    coco = coco_results.for_records(FLAGS.data_dir, FLAGS.coco_annotations)
    precision = precision_of(FLAGS.mixed_precision)
    session = session_config(FLAGS.num_cpu_threads, FLAGS.gpu_memory_fraction, precision)
    run = run_config(FLAGS.model_dir, session)
    ssd = build(config, run, FLAGS.data_format, model_scope=FLAGS.model_scope, precision=precision)
    threads, skip = FLAGS.num_preprocessing_threads, FLAGS.skip_bad_records
    evaluation = Evaluation(shards, config, FLAGS.batch_size, threads, skip)
    log(f"detecting in {evaluation.images} images with {checkpoint}")
    found = evaluation.predict(ssd, checkpoint)
    pred_dir = Path(FLAGS.model_dir) / "predict"
    voc_results.write_results(pred_dir, found, config.num_classes)
    labels.write_labels(pred_dir / LABELS_FILE, config.class_names)
    log(f"wrote results_1.txt to results_{config.num_classes - 1}.txt in {pred_dir}")
    if coco:
        log("\n".join(coco.finish(pred_dir, found.by_images())))
    result = evaluation.score(found)
    pictures = partial(pictures_of, evaluation.shards)
    log(f"wrote {write_report(pred_dir / 'eval_output', evaluation.ground_truth, result, pictures)}")


if __name__ == "__main__":
    command.run(main, define_flags)
