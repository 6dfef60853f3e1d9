"""Score detections by the rules of the PASCAL VOC devkit: average precision per class, and their mean.

    python voc_eval.py --dataset_directory=VOCROOT

reads the annotations of VOCROOT/VOC2007TEST and the results that eval_ssd.py wrote to ./logs/predict.
"""

from dataset.report.scoring import ImageSet, score_results
from utility.flags import detect as flags
from utility.run import command

FLAGS = flags.FLAGS


def main() -> None:
    """Read the flags and score."""
    score_results(
        ImageSet(FLAGS.dataset_directory, FLAGS.split, FLAGS.image_set),
        FLAGS.pred_dir,
        labels_file=FLAGS.labels_file,
        output_directory=FLAGS.output_directory,
        use_07_metric=FLAGS.use_07_metric,
        iou_threshold=FLAGS.iou_threshold,
    )


if __name__ == "__main__":
    command.run(main, flags.define_voc_eval)
