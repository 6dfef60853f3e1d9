"""Write a trained detector as a model that runs without this project: from pictures to named boxes in pixels.

    python utility/export_model.py --checkpoint_path=logs --output=exported
    python utility/export_model.py --checkpoint_path=logs --output=exported_lite --format=tflite
    python utility/export_model.py --checkpoint_path=logs --output=exported_onnx --format=onnx

The first is a SavedModel, for `tf.saved_model.load` and TensorFlow Serving; the others folders with model.tflite or
model.onnx and labels.txt. Class names and the config come from the checkpoint's folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

# As a script, sys.path starts with utility/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.sources import labels
from utility.errors import UserError
from utility.flags import FLAGS
from utility.run import command
from utility.run.log import log
from utility.startup.start import start_tensorflow
from utility.trained_network import config_beside, define_checkpoint, define_detection, trained_config


def define_flags() -> None:
    """Define the flags."""
    define_checkpoint()
    flags.DEFINE_string("output", None, "folder for the exported model; must be new or empty", required=True)
    flags.DEFINE_enum("format", "saved_model", ["saved_model", "tflite", "onnx"], "what to export")
    define_detection()


def main() -> None:
    """Read the flags and write the model."""
    output = Path(FLAGS.output)
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise UserError(f"--output={output} is there already: name a new or empty folder")
    config_beside(FLAGS.checkpoint_path)  # a broken config.json is refused before TensorFlow starts
    start_tensorflow()
    import tensorflow.compat.v1 as tf

    from net.export import export
    from utility.checkpoints import checkpoint_files

    tf.config.set_visible_devices([], "GPU")  # nothing is computed, and the GPU's memory may be in use
    checkpoint = checkpoint_files.resolve(FLAGS.checkpoint_path)
    config = trained_config(checkpoint, labels.VOC_CLASSES)
    export(FLAGS.format, output, checkpoint, config, FLAGS.model_scope)
    size = sum(path.stat().st_size for path in output.rglob("*"))
    log(f"wrote {checkpoint} with its {len(config.class_names)} classes to {output}, {size / 1e6:.0f} MB")
    if config.views.tile_size:
        log(f"it was trained on tiles: give it pictures of about {config.views.tile_size} pixels, parts of large ones")


if __name__ == "__main__":
    command.run(main, define_flags)
