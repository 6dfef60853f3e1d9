"""Convert a backbone's weights, or Caffe's SSD300, to a checkpoint that training, evaluation and demo load.

    python model/import_weights.py --source=FILE --output=model/vgg16_reducedfc.ckpt

The kind of FILE is recognised by its content: Keras' VGG16 .h5, TF-slim's vgg_16.ckpt, torchvision's vgg16 and
the SSD ports' vgg16_reducedfc .pth, Caffe's VGG-16 and SSD300 .caffemodel, Keras' ResNet50 and MobileNet .h5.
Without --source, Keras downloads its ImageNet weights of --backbone. Nothing that a file contains is executed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

# As a script, sys.path starts with model/; the packages are one level up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utility.config import config_file
from utility.config.settings import BACKBONES
from utility.errors import UserError
from utility.flags import FLAGS, define_number, type_of
from utility.run import command
from utility.run.log import log
from utility.startup.start import start_tensorflow


def define_flags() -> None:
    """Define the flags."""
    flags.DEFINE_string("source", None, "file with the weights; default: Keras' ImageNet weights, downloaded")
    flags.DEFINE_enum("backbone", "vgg16", [*BACKBONES], "which to download")
    width = "which width of mobilenet_v1 to download: 1, 0.75, 0.5 or 0.25"
    define_number("depth_multiplier", type_of("network.depth_multiplier"), 1.0, width)
    default = "model/vgg16_reducedfc.ckpt, model/BACKBONE/model.ckpt, or of a detector model/ssd300_caffe/model.ckpt"
    flags.DEFINE_string("output", None, f"checkpoint to write; default: {default}")


def main() -> None:
    """Read the flags, convert the file and write the checkpoint."""
    start_tensorflow()
    from model.weight_formats import keras_backbones, recognise

    source = FLAGS.source or keras_backbones.download(FLAGS.backbone, FLAGS.depth_multiplier)
    imported = recognise.read(source)
    if imported.config:
        output, next_step = "model/ssd300_caffe/model.ckpt", "detect with it: python simple_ssd_demo.py"
    else:
        output, next_step = "model/vgg16_reducedfc.ckpt", "train from it: python train_ssd.py"
        if imported.backbone != "vgg16":
            output = f"model/{imported.backbone}/model.ckpt"
    output = FLAGS.output or output
    _check_output(output, source, imported.config is not None)
    recognise.write(output, imported.variables)
    if imported.config:
        config_file.save(imported.config, str(Path(output).parent))
    numbers = sum(values.size for values in imported.variables.values())
    log(f"{source}: {imported.description}")
    for note in imported.notes:
        log(f"  {note}")
    log(f"wrote {output}: {len(imported.variables)} variables, {numbers / 1e6:.1f} million numbers")
    next_step += f" --checkpoint_path={output}"
    if imported.backbone != "vgg16":
        next_step += f" --backbone={imported.backbone}"
    if imported.depth_multiplier != 1:
        next_step += f" --depth_multiplier={imported.depth_multiplier:g}"
    log(next_step)


def _check_output(output: str, source: str, detector: bool) -> None:
    """Raise a UserError if the output is a folder or the source, or a detector beside other checkpoints."""
    prefix = Path(output)
    if prefix.is_dir() or output.endswith("/"):
        raise UserError(f"--output={output} is a folder: name the checkpoint in it, such as {prefix}/model.ckpt")
    if prefix.resolve() == Path(source.removesuffix(".index")).resolve():
        raise UserError(f"--output={output} is the source: choose another name")
    others = [path for path in sorted(prefix.parent.glob("*.index")) if path != Path(f"{output}.index")]
    if detector and others:
        raise UserError(
            f"--output={output}: {prefix.parent} holds {others[0].name} already, and the detector's config.json"
            " would apply to that one too; choose a folder of its own"
        )


if __name__ == "__main__":
    command.run(main, define_flags)
