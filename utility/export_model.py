"""Write a trained detector as a model that runs without this project: from pictures to named boxes in pixels.

    python utility/export_model.py --checkpoint_path=logs --output=exported
    python utility/export_model.py --checkpoint_path=logs --output=exported_lite --format=tflite
    python utility/export_model.py --checkpoint_path=logs --output=exported_onnx --format=onnx

The first is a SavedModel, for `tf.saved_model.load` and TensorFlow Serving; the others folders with model.tflite or
model.onnx and labels.txt. Class names and the config come from the checkpoint's folder.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Run as a script, the path starts with utility/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset import labels
from utility import config as config_lib
from utility import config_file, flags, runtime

FLAGS = flags.FLAGS


def main() -> None:
    """Read the flags and write the model."""
    output = Path(FLAGS.output)
    _check_output(output)
    runtime.start_tensorflow()
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    from net import export  # noqa: PLC0415
    from utility import checkpoints  # noqa: PLC0415

    tf.config.set_visible_devices([], "GPU")  # its memory may be another's, and there is nothing to compute
    checkpoint = checkpoints.resolve(FLAGS.checkpoint_path)
    config = _config(Path(checkpoint).parent)
    with whole(output) as folder:
        if FLAGS.format == "saved_model":
            export.write_saved_model(str(folder), checkpoint, config, FLAGS.model_scope)
        else:
            convert = export.tflite_model if FLAGS.format == "tflite" else export.onnx_model
            folder.mkdir()
            (folder / f"model.{FLAGS.format}").write_bytes(convert(checkpoint, config, FLAGS.model_scope))
            labels.write_labels(folder / config_lib.LABELS_FILE, config.class_names)
    size = sum(path.stat().st_size for path in output.rglob("*"))
    runtime.log(f"wrote {checkpoint} with its {len(config.class_names)} classes to {output}, {size / 1e6:.0f} MB")


def _check_output(output: Path) -> None:
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise ValueError(f"--output={output} is there already: name a new or empty folder")


def _config(folder: Path) -> config_lib.Config:
    """Return the config beside the checkpoint, or the default one with VOC's classes."""
    config = config_file.load(str(folder)) or config_lib.Config(class_names=labels.VOC_CLASSES)
    return config_lib.check(flags.with_detection_flags(config))


@contextmanager
def whole(output: Path) -> Iterator[Path]:
    """Give the path of a folder to make, and put it in the place of `output` once it is finished."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as partial:
        yield Path(partial) / "model"
        (Path(partial) / "model").rename(output)


if __name__ == "__main__":
    runtime.run(main, flags.define_export)
