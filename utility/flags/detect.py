"""The flags of the command lines that use a trained network: evaluation, its scores, demo and export."""

from __future__ import annotations

from absl import flags

from utility.config import presets
from utility.config.settings import Config
from utility.flags import config_flags, groups, numbers

FLAGS = flags.FLAGS

# flags of the reference's eval_ssd.py that its commands may carry, and that have nothing to set in detection
_WITHOUT_EFFECT = (
    "log_every_n_steps",
    "save_summary_steps",
    "train_epochs",
    "negative_ratio",
    "match_threshold",
    "neg_threshold",
)


def define_eval() -> None:
    """Define the flags of eval_ssd.py."""
    groups.define_data()
    groups.define_device()
    groups.define_model_dir()
    groups.define_model_scope()
    flags.DEFINE_boolean(
        "skip_bad_records", False, "leave out broken records; reads and decodes all once, copies go to TMPDIR"
    )
    config_flags.define(config_flags.DETECTION)
    config_flags.define_checked_size()
    for name in _WITHOUT_EFFECT:
        flags.DEFINE_string(name, None, "of the reference's evaluation; has no effect here")
    numbers.define_integer("batch_size", 8, "images at once", "schedule.batch_size")
    flags.DEFINE_string("checkpoint_path", None, "a checkpoint or its folder, instead of model_dir's newest")
    flags.DEFINE_string("coco_annotations", None, "of images from COCO: their instances JSON, to score by COCO's rules")


def define_demo() -> None:
    """Define the flags of simple_ssd_demo.py."""
    groups.define_device()
    groups.define_checkpoint()
    inputs = "pictures, folders of pictures, or videos; several may follow each other; or a camera alone: camera:0"
    flags.DEFINE_multi_string("input", ["demo"], inputs)
    flags.DEFINE_string("output", "demo/output", "folder for the drawn pictures and videos, and the detections")
    numbers.define_integer("num_classes", None, "classes with background; only to be checked against the checkpoint's")
    config_flags.define(config_flags.DETECTION, Config().replace(presets.DEMO))
    config_flags.define_checked_size()


def define_export() -> None:
    """Define the flags of utility/export_model.py."""
    groups.define_checkpoint()
    flags.DEFINE_string("output", None, "folder for the exported model; must be new or empty", required=True)
    flags.DEFINE_enum("format", "saved_model", ["saved_model", "tflite", "onnx"], "what to export")
    config_flags.define(config_flags.DETECTION)
    config_flags.define_checked_size()


def define_voc_eval() -> None:
    """Define the flags of voc_eval.py."""
    flags.DEFINE_string("dataset_directory", None, "VOCROOT: the folder that holds VOC2007TEST", required=True)
    flags.DEFINE_string("split", "VOC2007TEST", "folder of VOCROOT with the annotations")
    flags.DEFINE_string("image_set", "test", "list of images in ImageSets/Main")
    flags.DEFINE_string("pred_dir", "./logs/predict", "folder with results_{class id}.txt")
    flags.DEFINE_string("labels_file", None, "class names, one a line; default: labels.txt of the detections' folder")
    flags.DEFINE_string("output_directory", None, "folder for the figures; default: eval_output beside the detections")
    flags.DEFINE_boolean("use_07_metric", True, "VOC2007's 11-point average precision, else the area under the curve")
    numbers.define_float("iou_threshold", 0.5, "IoU from which a detection is right")
