"""The sample set as a user makes it."""

import subprocess
import sys

from dataset.sources import voc
from utility.run.command import ROOT

SCRIPT = ROOT / "dataset" / "make_sample_voc.py"


def test_as_a_user_runs_it(tmp_path):
    command = [sys.executable, str(SCRIPT), "--output_directory=set", "--num_train=2", "--num_test=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "wrote 2 + 1 pictures of ball, car, fish, house, tree to set\n"
    assert len(voc.index_images(tmp_path / "set" / "VOC2007")) == 2
