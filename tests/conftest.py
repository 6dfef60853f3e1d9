"""Fixtures shared by all tests."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# a shell script's background jobs ignore Ctrl-C, and so would every program that a test starts
signal.signal(signal.SIGINT, signal.default_int_handler)

# a loaded machine takes longer than hypothesis' 200 ms for what is right all the same
settings.register_profile("project", deadline=None)
settings.load_profile("project")

SHARED = Path(os.environ.get("SSD_SHARED_DIR", Path(__file__).resolve().parents[2] / "shared"))


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here: set SSD_SHARED_DIR to the folder that holds '{name}'")
    return path


@pytest.fixture(autouse=True)
def _leaves_no_graph_behind():
    """A graph that a test leaves open would take the operations of all later tests of the process."""
    yield
    tensorflow = sys.modules.get("tensorflow")
    assert not tensorflow or tensorflow.executing_eagerly(), "the test leaves a graph open"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden numbers computed outside this project."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def voc_sample() -> Path:
    """A VOCROOT of 300 + 150 genuine VOC photographs."""
    return _shared("data/voc_sample")


@pytest.fixture(scope="session")
def coco_tiny() -> Path:
    """50 + 50 genuine COCO images in train2017/ and val2017/, and their instances JSON files in annotations/."""
    return _shared("data/coco_tiny")


@pytest.fixture(scope="session")
def bccd() -> Path:
    """A VOCROOT of 292 + 72 microscope pictures with 3 classes of blood cells."""
    return _shared("data/bccd")


@pytest.fixture(scope="session")
def cases() -> Path:
    """Small inputs that went wrong, with a README that says what is right."""
    return Path(__file__).parent / "cases"


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Larger inputs that went wrong, which are not in the repository."""
    return _shared("cases")


@pytest.fixture(scope="session")
def drawn_voc(tmp_path_factory) -> Path:
    """A VOCROOT of 24 + 12 drawn pictures of five classes, which stands where photographs are not needed."""
    from dataset import sample

    root = tmp_path_factory.mktemp("drawn")
    sample.make(root / "VOC", num_train=24, num_test=12)
    return root / "VOC"


@pytest.fixture
def file_system(tmp_path):
    """Mount small file systems in memory; a test that is not allowed to is skipped."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"mounted{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting a file system takes root: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="session")
def train_tiny(tmp_path_factory):
    """Run tests.builders.tiny_ssd with some arguments; gives the variables of three steps on two images, and the log.

    In a process of its own: TensorFlow divides the CPU into devices, and chooses its log, only before it starts.
    """

    def trained(*arguments):
        home = tmp_path_factory.mktemp("tiny")
        command = [
            sys.executable,
            "-m",
            "tests.builders.tiny_ssd",
            str(home / "logs"),
            str(home / "variables.npz"),
            *arguments,
        ]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
        root = Path(__file__).resolve().parents[1]
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return dict(np.load(home / "variables.npz")), done.stdout + done.stderr

    return trained


@pytest.fixture(scope="session")
def trained_alone(train_tiny):
    """The variables that one device gives."""
    return train_tiny()[0]
