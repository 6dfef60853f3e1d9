"""Score detections by the rules of the PASCAL VOC devkit: average precision per class, and their mean.

    python voc_eval.py --dataset_directory=VOCROOT

reads the annotations of VOCROOT/VOC2007TEST and the results that eval_ssd.py wrote to ./logs/predict.
"""

from absl import flags

from dataset.report.scoring import ImageSet, score_results
from utility.config.settings import FractionAbove0
from utility.flags import FLAGS, define_number
from utility.run import command


def define_flags() -> None:
    """Define the flags."""
    flags.DEFINE_string("dataset_directory", None, "VOCROOT: the folder that holds VOC2007TEST", required=True)
    flags.DEFINE_string("split", "VOC2007TEST", "folder of VOCROOT with the annotations")
    flags.DEFINE_string("image_set", "test", "list of images in ImageSets/Main")
    flags.DEFINE_string("pred_dir", "./logs/predict", "folder with results_{class id}.txt")
    flags.DEFINE_string("labels_file", None, "class names, one a line; default: labels.txt of the detections' folder")
    flags.DEFINE_string("output_directory", None, "folder for the figures; default: eval_output beside the detections")
    flags.DEFINE_boolean("use_07_metric", True, "VOC2007's 11-point average precision, else the area under the curve")
    define_number("iou_threshold", FractionAbove0, 0.5, "IoU from which a detection is right")


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
    command.run(main, define_flags)
