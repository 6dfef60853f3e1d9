"""Detect objects in pictures, and draw what was found.

  python simple_ssd_demo.py --checkpoint_path=logs --input=demo --output=demo/output

--input takes pictures and folders, one or several, as in --input *.jpg. Class names and the config come from the
checkpoint's folder.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataset.sources import folders, labels, pictures
from utility.config import checks, config_file, presets
from utility.config.settings import Config
from utility.drawing.detections import draw_detections
from utility.flags import config_flags
from utility.flags import detect as flags
from utility.run import command
from utility.run.log import log
from utility.startup.start import start_tensorflow

FLAGS = flags.FLAGS


def main() -> int:
    """Read the flags, detect, draw; returns 1 if a picture could not be read."""
    paths = _pictures(FLAGS.input)
    _check_output(paths, Path(FLAGS.output))
    for folder in config_file.folders_beside(FLAGS.checkpoint_path):
        _config(folder)
    start_tensorflow()
    from dataset.input.evaluation import pictures_input_fn
    from net.estimator.precision import precision_of
    from net.estimator.prediction import detect
    from net.estimator.run_config import build, run_config, session_config
    from utility.checkpoints import checkpoint_files

    checkpoint = checkpoint_files.resolve(FLAGS.checkpoint_path)
    config = _config(Path(checkpoint).parent)
    precision = precision_of(FLAGS.mixed_precision)
    session = session_config(FLAGS.num_cpu_threads, FLAGS.gpu_memory_fraction, precision)
    run = run_config(str(Path(checkpoint).parent), session)
    ssd = build(config, run, FLAGS.data_format, model_scope=FLAGS.model_scope, precision=precision)
    unreadable: list[Path] = []

    def readable() -> Iterator[tuple[str, np.ndarray]]:
        for path in paths:
            try:
                yield str(path), pictures.read_upright(path)
            except pictures.PictureError as error:
                unreadable.append(path)
                log(f"skipped {error}")

    Path(FLAGS.output).mkdir(parents=True, exist_ok=True)
    for found in detect(ssd, pictures_input_fn(readable, config), checkpoint):
        _draw(found, config.class_names, Path(FLAGS.output))
    log(f"drew {len(paths) - len(unreadable)} of {len(paths)} pictures to {FLAGS.output}")
    return 1 if unreadable else 0


def _pictures(inputs: list[str]) -> list[Path]:
    """Return the picture files named, and those in the folders named."""
    paths: list[Path] = []
    for path in map(Path, inputs):
        inside = sorted(filter(folders.is_picture, path.iterdir())) if path.is_dir() else [path]
        if not inside:
            below = next((other.parent for other in path.rglob("*") if folders.is_picture(other)), None)
            hint = f"; {below} has some" if below else ""
            none = f"there is no picture ({', '.join(folders.SUFFIXES)}) in this folder"
            raise ValueError(f"--input={path}: {none}{hint}")
        paths += inside
    return paths


def _check_output(paths: list[Path], output: Path) -> None:
    """Refuse to draw two pictures to one file, or over a picture that is read."""
    targets: dict[Path, Path] = {}
    for path in paths:
        target = _target(path, output).resolve()
        if target in targets or target == path.resolve():
            raise ValueError(
                f"--output={output}: {path} would be drawn over {targets.get(target, path)}; take another folder"
            )
        targets[target] = path


def _target(path: Path, output: Path) -> Path:
    return output / f"{path.stem}.jpg"


def _config(folder: Path) -> Config:
    """Return the config beside the checkpoint, or the default one with VOC's classes, for showing detections."""
    config = config_file.load(str(folder)) or Config(class_names=labels.VOC_CLASSES)
    config = config.replace(presets.DEMO)
    if FLAGS.num_classes is not None and FLAGS.num_classes != config.num_classes:
        raise ValueError(f"--num_classes={FLAGS.num_classes}: {folder} has {config.num_classes}; leave the flag out")
    return checks.check(config_flags.with_detection_flags(config))


def _draw(found: dict[str, Any], class_names: tuple[str, ...], output: Path) -> None:
    path = Path(found["image_id"].decode())
    boxes = found["boxes_yxyx"] * np.tile(found["size"], 2)
    picture = Image.fromarray(pictures.read_upright(path))
    drawn = draw_detections(picture, boxes, found["scores"], found["classes"], class_names)
    drawn.save(_target(path, output), quality=92)
    best = [f"{class_names[c - 1]} {s:.2f}" for c, s in zip(found["classes"][:5], found["scores"][:5], strict=True)]
    more = f", and {len(boxes) - 5} more" if len(boxes) > 5 else ""
    log(f"{path}: {', '.join(best) or 'nothing found'}{more}")


if __name__ == "__main__":
    command.run(main, flags.define_demo, rest_flag="input")
