"""Fixtures shared by all tests."""

import os
import subprocess
from pathlib import Path

import pytest

import utility  # noqa: F401  (sets TensorFlow's environment before anything imports TensorFlow)

SHARED = Path(os.environ.get("SSD_SHARED_DIR", Path(__file__).resolve().parents[2] / "shared"))


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here: set SSD_SHARED_DIR to the folder that holds '{name}'")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden numbers computed outside this project."""
    return _shared("golden")


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
