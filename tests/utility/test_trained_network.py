"""The config of a trained network, found by the path of its checkpoint, with the flags of detection."""

import subprocess
import sys

import pytest

from tests.builders.configs import voc_config
from utility.config import config_file
from utility.run.command import ROOT
from utility.trained_network import config_beside

PROGRAM = """
import sys
from utility.run.command import run
from utility.trained_network import define_detection, trained_config

def main():
    config = trained_config(sys.argv[1].partition("=")[2], ("a", "b"), {"detection.nms_topk": 7})
    print(config.class_names, config.network.image_size, config.detection.nms_topk, config.detection.min_size)

def define():
    from absl import flags
    flags.DEFINE_string("folder", None, "")
    define_detection()

run(main, define)
"""


def trained(*arguments):
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("checkpoint", ["", "model.ckpt-3", "model.ckpt-3.index"])
def test_a_config_is_found_by_a_checkpoint_or_its_folder(tmp_path, checkpoint):
    assert config_beside(str(tmp_path / checkpoint)) is None
    config_file.save(voc_config(), str(tmp_path))
    assert config_beside(str(tmp_path / checkpoint)) == voc_config()


def test_flags_count_before_changes_and_these_before_the_config(tmp_path):
    folder = f"--folder={tmp_path}"
    assert trained(folder) == "('a', 'b') (300, 300) 7 0.03\n"
    config_file.save(voc_config(class_names=("cat",), network__image_size=(304, 400)), str(tmp_path))
    assert trained(folder) == "('cat',) (304, 400) 7 0.03\n"
    given = trained(folder, "--nms_topk=9", "--min_size=0.5", "--train_image_size=304x400")
    assert given == "('cat',) (304, 400) 9 0.5\n"


def test_another_size_of_the_input_is_refused(tmp_path):
    config_file.save(voc_config(), str(tmp_path))
    message = "error: --train_image_size=512: the checkpoint was trained at 300x300; leave it out\n"
    assert trained(f"--folder={tmp_path}", "--train_image_size=512") == message
