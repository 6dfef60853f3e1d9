"""Detect objects in pictures, videos or what a camera sees, and draw what was found.

  python simple_ssd_demo.py --checkpoint_path=logs --input=demo --output=demo/output
  python simple_ssd_demo.py --checkpoint_path=logs --input=street.mp4 --output=FOLDER
  python simple_ssd_demo.py --checkpoint_path=logs --input=camera:0

--input takes pictures, folders of them and videos, one or several, as in --input *.jpg; or one camera, shown in a
window until q or Esc. Beside the drawn pictures detections.json has what was found, and beside a drawn video, which has
no sound, a file such as street.jsonl, a line a frame. Class names and the config come from the checkpoint's folder.
"""

from pathlib import Path

from absl import flags

from dataset import video
from dataset.sources import labels
from utility.config.presets import DEMO
from utility.config.settings import Count
from utility.drawing.window import Window
from utility.errors import UserError
from utility.flags import FLAGS, define_device, define_number
from utility.run import command
from utility.startup.start import start_tensorflow
from utility.trained_network import config_beside, define_checkpoint, define_detection, trained_config


def define_flags() -> None:
    """Define the flags."""
    define_device()
    define_checkpoint()
    inputs = "pictures, folders of pictures, or videos; several may follow each other; or a camera alone: camera:0"
    flags.DEFINE_multi_string("input", ["demo"], inputs)
    flags.DEFINE_string("output", "demo/output", "folder for the drawn pictures and videos, and the detections")
    define_number("num_classes", Count, None, "classes with background; only to be checked against the checkpoint's")
    define_detection(DEMO)


def main() -> int:
    """Read the flags, detect, draw; returns 1 if a picture could not be read."""
    output = Path(FLAGS.output)
    pictures, videos, camera = video.parse_inputs(FLAGS.input, output)
    for path in videos:  # what is missing or cannot be read is said before the network is built
        with video.Video(path):
            pass
    if camera is not None:
        with video.Video(camera), Window(f"camera:{camera}"):
            pass
    config_beside(FLAGS.checkpoint_path)  # a broken config.json is refused before TensorFlow starts
    start_tensorflow()
    from net import demo
    from net.devices import precision_of
    from net.run_config import build, run_config, session_config
    from utility.checkpoints import checkpoint_files

    checkpoint = checkpoint_files.resolve(FLAGS.checkpoint_path)
    folder = str(Path(checkpoint).parent)
    config = trained_config(checkpoint, labels.VOC_CLASSES, DEMO)
    if FLAGS.num_classes is not None and FLAGS.num_classes != config.num_classes:
        raise UserError(f"--num_classes={FLAGS.num_classes}: {folder} has {config.num_classes}; leave the flag out")
    precision = precision_of(FLAGS.mixed_precision)
    run = run_config(folder, session_config(FLAGS.num_cpu_threads, FLAGS.gpu_memory_fraction, precision))
    ssd = build(config, run, FLAGS.data_format, model_scope=FLAGS.model_scope, precision=precision)
    detector = demo.Detector(ssd, checkpoint, config)
    if camera is not None:
        demo.show_camera(detector, camera)
        return 0
    output.mkdir(parents=True, exist_ok=True)
    unreadable = demo.draw_pictures(detector, pictures, output) if pictures else 0
    for path in videos:
        demo.draw_video(detector, path, output)
    return 1 if unreadable else 0


if __name__ == "__main__":
    command.run(main, define_flags, rest_flag="input")
