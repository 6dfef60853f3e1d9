"""The only place that defines command-line flags.

A flag that sets a hyper-parameter takes its type and default from the dataclasses of utility/config.py. It
replaces the preset's value only where it is given, so the other presets keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from absl import flags

from utility import presets
from utility.config import BACKBONES, Config

FLAGS = flags.FLAGS

# flag -> (setting of the config, what it is)
_TRAINING_SETTINGS = {
    "batch_size": ("schedule.batch_size", "images a step, over all devices"),
    "max_number_of_steps": ("schedule.max_number_of_steps", "train until this step"),
    "learning_rate": ("schedule.learning_rate", "learning rate that lr_decay_factors scale"),
    "end_learning_rate": ("schedule.end_learning_rate", "floor of the learning rate"),
    "decay_boundaries": ("schedule.decay_boundaries", "steps at which the learning rate changes"),
    "lr_decay_factors": (
        "schedule.lr_decay_factors",
        "factors of the learning rate, one more than boundaries",
    ),
    "momentum": ("schedule.momentum", "momentum of the optimizer"),
    "clip_gradient_norm": ("schedule.clip_gradient_norm", "largest norm of all gradients together; 0: no limit"),
    "weight_decay": ("loss.weight_decay", "weight decay of all variables"),
    "negative_ratio": ("loss.negative_ratio", "mined background boxes for each positive"),
    "match_threshold": ("targets.match_threshold", "IoU from which a default box is positive"),
    "neg_threshold": ("targets.neg_threshold", "IoU below which a default box is background"),
}
_NETWORK_SETTINGS = {
    "backbone": ("network.backbone", f"one of {', '.join(BACKBONES)}"),
    "depth_multiplier": ("network.depth_multiplier", "factor of the number of filters in backbone and extra layers"),
}
_DETECTION_SETTINGS = {
    "select_threshold": ("detection.select_threshold", "lowest class probability of a detection"),
    "min_size": ("detection.min_size", "smallest side of a detection, in parts of the image's side"),
    "keep_topk": ("detection.keep_topk", "boxes of a class that enter non-maximum suppression"),
    "nms_topk": ("detection.nms_topk", "boxes of a class that leave non-maximum suppression"),
    "nms_threshold": ("detection.nms_threshold", "IoU from which the lesser box is suppressed"),
}
# flags of the reference's eval_ssd.py that its commands may carry, and that have nothing to set in detection
_WITHOUT_EFFECT = (
    "log_every_n_steps",
    "save_summary_steps",
    "train_epochs",
    "negative_ratio",
    "match_threshold",
    "neg_threshold",
)
_CONVERTED_FROM = {
    "voc": (
        "dataset_directory",
        "train_splits",
        "validation_splits",
        "train_image_set",
        "validation_image_set",
        "labels_file",
    ),
    "coco": ("annotations", "images", "validation_annotations", "validation_images"),
}
_SIZE_SETTING = {"train_image_size": ("network.image_size", "side of the network's input, or HEIGHTxWIDTH, pixels")}


def _define(settings: Mapping[str, tuple[str, str]], defaults: Config | None = None) -> None:
    for name, (setting, text) in settings.items():
        default = _value_at(defaults or Config(), setting)
        if isinstance(default, tuple):
            flags.DEFINE_string(name, ",".join(map(str, default)), f"{text} (comma-separated)")
        elif isinstance(default, str):
            flags.DEFINE_string(name, default, text)
        elif isinstance(default, int):
            flags.DEFINE_integer(name, default, text)
        else:
            flags.DEFINE_float(name, default, text)


def _value_at(config: Config, setting: str) -> Any:
    value: Any = config
    for part in setting.split("."):
        value = getattr(value, part)
    return value


def define_train() -> None:
    """Define the flags of train_ssd.py."""
    _define_data()
    _define_device()
    _define_model("./logs/")
    flags.DEFINE_string("preset", Config().preset, f"one of {', '.join(presets.PRESETS)}")
    _define(_NETWORK_SETTINGS | _SIZE_SETTING | _TRAINING_SETTINGS)
    flags.DEFINE_integer(
        "train_epochs",
        None,
        "passes over the data to train for, unless a given max_number_of_steps ends it",
        lower_bound=1,
    )
    flags.DEFINE_integer("eval_every_steps", 0, "steps between two evaluations of the run; 0: none", lower_bound=0)
    flags.DEFINE_integer(
        "early_stop_evals", 0, "stop after so many evaluations without a better mAP; 0: never", lower_bound=0
    )
    flags.DEFINE_integer("log_every_n_steps", 10, "steps between two lines of the log", lower_bound=1)
    flags.DEFINE_integer("save_summary_steps", 500, "steps between two summaries for TensorBoard", lower_bound=1)
    flags.DEFINE_integer("save_checkpoints_secs", 7200, "seconds between two checkpoints", lower_bound=1)
    flags.DEFINE_integer(
        "save_checkpoints_steps", None, "steps between two checkpoints, instead of seconds", lower_bound=1
    )
    flags.DEFINE_integer("tf_random_seed", 20180503, "seed of the weights, the order of the data and the augmentation")
    flags.DEFINE_boolean("deterministic", False, "same seed, same batches, at some cost of speed")
    flags.DEFINE_boolean("augment", True, "SSD's augmentation; without it the pictures are learnt as they are")
    flags.DEFINE_boolean("skip_empty_images", False, "leave out images without objects")
    flags.DEFINE_string(
        "checkpoint_path",
        None,
        "weights to start from: a checkpoint or its folder; default: ./model, of other backbones ./model/BACKBONE",
    )
    flags.DEFINE_string(
        "checkpoint_model_scope",
        None,
        "scope of the variables in that checkpoint; default: vgg_16, of other backbones their name",
    )
    flags.DEFINE_string("model_scope", "ssd300", "scope of the network's variables")
    flags.DEFINE_list(
        "checkpoint_exclude_scopes",
        ["ssd300/multibox_head", "ssd300/additional_layers", "ssd300/conv4_3_scale"],
        "scopes that are not loaded from it",
    )
    flags.DEFINE_boolean("ignore_missing_vars", True, "variables that it lacks keep their random start")
    flags.DEFINE_boolean("multi_gpu", True, "use all visible GPUs")
    flags.DEFINE_integer(
        "accumulate_steps", 1, "parts in which a device computes its images of a batch, to save memory", lower_bound=1
    )
    flags.DEFINE_boolean("mixed_precision", False, "compute in float16; variables and loss stay float32")
    flags.DEFINE_boolean("xla", False, "compile the network with XLA")


def define_eval() -> None:
    """Define the flags of eval_ssd.py."""
    _define_data()
    _define_device()
    _define_model("./logs/")
    _define(_DETECTION_SETTINGS)
    _define_checked_size()
    for name in _WITHOUT_EFFECT:
        flags.DEFINE_string(name, None, "of the reference's evaluation; has no effect here")
    flags.DEFINE_integer("batch_size", 8, "images at once", lower_bound=1)
    flags.DEFINE_string("checkpoint_path", None, "a checkpoint or its folder, instead of model_dir's newest")
    flags.DEFINE_string("model_scope", "ssd300", "scope of the network's variables")
    flags.DEFINE_string("coco_annotations", None, "of images from COCO: their instances JSON, to score by COCO's rules")


def define_demo() -> None:
    """Define the flags of simple_ssd_demo.py."""
    _define_device()
    flags.DEFINE_multi_string("input", ["demo"], "pictures, or folders of pictures; several may follow each other")
    flags.DEFINE_string("output", "demo/output", "folder for the drawn pictures")
    flags.DEFINE_string("checkpoint_path", "./logs", "a checkpoint or its folder")
    flags.DEFINE_string("model_scope", "ssd300", "scope of the network's variables")
    flags.DEFINE_integer("num_classes", None, "classes with background; only to be checked against the checkpoint's")
    _define(_DETECTION_SETTINGS, Config().replace(presets.DEMO))
    _define_checked_size()


def define_voc_eval() -> None:
    """Define the flags of voc_eval.py."""
    flags.DEFINE_string("dataset_directory", None, "VOCROOT: the folder that holds VOC2007TEST", required=True)
    flags.DEFINE_string("split", "VOC2007TEST", "folder of VOCROOT with the annotations")
    flags.DEFINE_string("image_set", "test", "list of images in ImageSets/Main")
    flags.DEFINE_string("pred_dir", "./logs/predict", "folder with results_{class id}.txt")
    flags.DEFINE_string("labels_file", None, "class names, one a line; default: labels.txt of the detections' folder")
    flags.DEFINE_string("output_directory", None, "folder for the figures; default: eval_output beside the detections")
    flags.DEFINE_boolean("use_07_metric", True, "VOC2007's 11-point average precision, else the area under the curve")
    flags.DEFINE_float("iou_threshold", 0.5, "IoU from which a detection is right")


def define_convert() -> None:
    """Define the flags of dataset/convert_tfrecords.py."""
    flags.DEFINE_enum("format", "voc", ["voc", "coco"], "what the annotations are")
    flags.DEFINE_string("dataset_directory", None, "VOCROOT: the folder that holds VOC2007, VOC2012, ...")
    flags.DEFINE_string("output_directory", "./dataset/tfrecords", "folder for the records")
    flags.DEFINE_list("train_splits", None, "folders of VOCROOT; default: VOC2007 and VOC2012, whichever is there")
    flags.DEFINE_list(
        "validation_splits",
        None,
        "folders of VOCROOT; default: VOC2007TEST, or without it VOC2007, if that has the validation image set",
    )
    flags.DEFINE_string("train_image_set", "trainval", "list of training images in ImageSets/Main")
    flags.DEFINE_string(
        "validation_image_set",
        "test",
        "list of validation images in ImageSets/Main; VOC2007 must have it to stand in for VOC2007TEST",
    )
    flags.DEFINE_string("annotations", None, "of COCO: instances JSON of the training images")
    flags.DEFINE_string("images", None, "of COCO: folder with the training images")
    flags.DEFINE_string("validation_annotations", None, "of COCO: instances JSON of the validation images")
    flags.DEFINE_string("validation_images", None, "of COCO: folder with the validation images")
    flags.DEFINE_integer("train_shards", 16, "number of training record files", lower_bound=1)
    flags.DEFINE_integer("validation_shards", 16, "number of validation record files", lower_bound=1)
    flags.DEFINE_integer("num_threads", 8, "threads that read and check pictures", lower_bound=1)
    flags.DEFINE_string("labels_file", None, "of VOC: class names, one a line; 'auto' collects them; default: VOC's 20")
    flags.DEFINE_boolean("strict", False, "take a bad annotation as an error instead of mending or dropping it")
    flags.DEFINE_boolean("skip_bad_images", False, "leave out pictures that cannot be read, instead of stopping")
    flags.register_validator("format", _check_format)


def _check_format(chosen: str) -> bool:
    """Refuse flags of the other format, which would have no effect, and VOC without its folder."""
    other = "voc" if chosen == "coco" else "coco"
    foreign = [name for name in _CONVERTED_FROM[other] if FLAGS[name].present]
    if foreign:
        raise flags.ValidationError(f"--{foreign[0]} is for --format={other}; leave one of the two out")
    if chosen == "voc" and not FLAGS["dataset_directory"].value:
        raise flags.ValidationError("--dataset_directory is missing: give VOCROOT, the folder that holds VOC2007, ...")
    return True


def define_sample() -> None:
    """Define the flags of dataset/make_sample_voc.py."""
    flags.DEFINE_string("output_directory", "./quickstart/VOC", "folder for the sample set")
    flags.DEFINE_integer("num_train", 200, "training pictures", lower_bound=1)
    flags.DEFINE_integer("num_test", 50, "test pictures", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "another seed draws other pictures")


def define_inspect() -> None:
    """Define the flags of dataset/dataset_inspect.py."""
    flags.DEFINE_string("data_dir", "./dataset/tfrecords", "folder with the records")
    flags.DEFINE_enum("split", "train", ["train", "val"], "which records")
    flags.DEFINE_string("output", None, "folder for pictures with their boxes drawn")
    flags.DEFINE_integer("count", 16, "how many pictures to draw", lower_bound=1)


def define_import() -> None:
    """Define the flags of model/import_weights.py."""
    flags.DEFINE_string("source", None, "file with the weights; default: Keras' ImageNet weights, downloaded")
    flags.DEFINE_enum("backbone", "vgg16", [*BACKBONES], "which to download")
    flags.DEFINE_float("depth_multiplier", 1.0, "which width of mobilenet_v1 to download: 1, 0.75, 0.5 or 0.25")
    flags.DEFINE_string(
        "output",
        None,
        "checkpoint to write; default: model/vgg16_reducedfc.ckpt, of other backbones model/BACKBONE/model.ckpt,"
        " of a detector model/ssd300_caffe/model.ckpt",
    )


def define_checkpoint_inspect() -> None:
    """Define the flags of utility/checkpoint_inspect.py."""
    flags.DEFINE_string("checkpoint_path", "./logs", "a checkpoint or its folder")
    flags.DEFINE_boolean("slots", False, "list the optimizer's variables too")


def define_export() -> None:
    """Define the flags of utility/export_model.py."""
    flags.DEFINE_string("checkpoint_path", "./logs", "a checkpoint or its folder")
    flags.DEFINE_string("output", None, "folder for the exported model; must be new or empty", required=True)
    flags.DEFINE_enum("format", "saved_model", ["saved_model", "tflite", "onnx"], "what to export")
    flags.DEFINE_string("model_scope", "ssd300", "scope of the network's variables")
    _define(_DETECTION_SETTINGS)
    _define_checked_size()


def define_benchmark() -> None:
    """Define the flags of utility/benchmark.py."""
    flags.DEFINE_enum("measure", "input", ["input", "train", "eval", "metric"], "what to time")
    flags.DEFINE_string("data_dir", None, "folder with the records; default: a sample set made for the run")
    flags.DEFINE_string("preset", Config().preset, f"one of {', '.join(presets.PRESETS)}")
    _define(_NETWORK_SETTINGS)
    flags.DEFINE_integer("batch_size", 8, "images a batch", lower_bound=1)
    flags.DEFINE_integer("batches", 10, "batches of a turn", lower_bound=1)
    flags.DEFINE_integer("turns", 5, "turns that each part takes; their median counts", lower_bound=1)
    _define_data_format()


def _define_checked_size() -> None:
    flags.DEFINE_string("train_image_size", None, "side of the input; only to be checked against the checkpoint's")


def _define_data() -> None:
    flags.DEFINE_string("data_dir", "./dataset/tfrecords", "folder with the records and labels.txt")
    flags.DEFINE_integer("num_classes", None, "classes with background; only to be checked against labels.txt")
    flags.DEFINE_integer("num_readers", 8, "record files read at once in training", lower_bound=1)
    flags.DEFINE_integer("num_preprocessing_threads", 24, "images preprocessed at once", lower_bound=1)


def _define_device() -> None:
    flags.DEFINE_integer(
        "num_cpu_threads", 0, "threads TensorFlow computes with; 0: as many as there are cores", lower_bound=0
    )
    flags.DEFINE_float("gpu_memory_fraction", 1.0, "part of a GPU's memory to take", lower_bound=0.01, upper_bound=1)
    _define_data_format()


def _define_data_format() -> None:
    flags.DEFINE_enum(
        "data_format",
        None,
        ["channels_first", "channels_last"],
        "layout of the network's maps; default: what the device runs best",
    )


def _define_model(default: str) -> None:
    flags.DEFINE_string("model_dir", default, "folder of checkpoints, logs, config.json and results")


def with_network_flags(base: Config) -> Config:
    """Return the config with the backbone that stands on the command line."""
    return _with_flags(base, _NETWORK_SETTINGS)


def with_training_flags(base: Config) -> Config:
    """Return the config with the training settings whose flags stand on the command line."""
    return _with_flags(base, _NETWORK_SETTINGS | _SIZE_SETTING | _TRAINING_SETTINGS)


def with_detection_flags(base: Config) -> Config:
    """Return the config with the detection settings whose flags stand on the command line."""
    size = FLAGS["train_image_size"].value
    if size is not None and _image_size(size) != base.network.image_size:
        height, width = base.network.image_size
        raise ValueError(
            f"--train_image_size={size}: the checkpoint was trained at {height}x{width}; leave the flag out"
        )
    return _with_flags(base, _DETECTION_SETTINGS)


def _with_flags(base: Config, settings: Mapping[str, tuple[str, str]]) -> Config:
    given = {name: setting for name, (setting, _) in settings.items() if FLAGS[name].present}
    return base.replace({setting: _parsed(name, _value_at(base, setting)) for name, setting in given.items()})


def _parsed(name: str, like: Any) -> Any:
    """Return the value of a flag, a comma-separated one as the tuple that the config holds."""
    value: Any = FLAGS[name].value
    if name in _SIZE_SETTING:
        return _image_size(value)
    if not isinstance(like, tuple):
        return value
    kind: Callable[[str], Any] = type(like[0])
    try:
        return tuple(kind(part) for part in value.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"--{name}={value}: must be {kind.__name__}s, separated by commas") from None


def _image_size(value: str) -> tuple[int, int]:
    parts = value.replace(",", "x").split("x")
    if len(parts) > 2 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"--train_image_size={value}: must be a number of pixels, or HEIGHTxWIDTH such as 300x300")
    return int(parts[0]), int(parts[-1])
