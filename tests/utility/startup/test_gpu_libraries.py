"""What a training says where there is a driver and TensorFlow finds no GPU."""

import ctypes
from types import SimpleNamespace

import pytest

from utility.startup import gpu_libraries


def explanation():
    """What is said, which is not nothing."""
    text = gpu_libraries.explanation()
    assert text is not None
    return text


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path):
    """TensorFlow is installed in the folder of the test, and no GPU is hidden."""
    spec = SimpleNamespace(origin=str(tmp_path / "tensorflow/__init__.py"))
    monkeypatch.setattr(gpu_libraries, "find_spec", lambda name: spec if name == "tensorflow" else None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def openable(monkeypatch):
    """The names and paths that the loader opens."""
    names: set[str] = set()

    def load(name, mode):
        if name not in names:
            raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    return names


def test_a_driver_is_any_of_its_files(tmp_path, monkeypatch):
    files = [tmp_path / "version", tmp_path / "nvidiactl"]
    monkeypatch.setattr(gpu_libraries, "DRIVER_FILES", files)
    assert not gpu_libraries.has_driver()
    files[1].touch()
    assert gpu_libraries.has_driver()


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_need_no_explanation(openable, monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert gpu_libraries.explanation() is None


@pytest.mark.parametrize("visible", [{}, {"CUDA_VISIBLE_DEVICES": "0"}])
def test_missing_libraries_are_named_with_what_to_type(openable, monkeypatch, visible):
    for name, value in visible.items():
        monkeypatch.setenv(name, value)
    openable.update(set(gpu_libraries.LIBRARIES) - {"libcudnn.so.9", "libcufft.so.11"})
    text = explanation()
    assert "libcufft.so.11, libcudnn.so.9 cannot be opened" in text and "make GPU=1 venv" in text


def test_libraries_beside_tensorflow_count_if_they_open(openable, tmp_path):
    openable.update(set(gpu_libraries.LIBRARIES) - {"libcudnn.so.9"})
    beside = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9"
    beside.parent.mkdir(parents=True)
    beside.touch()
    assert "libcudnn.so.9 cannot" in explanation()
    openable.add(str(beside))
    assert "all libraries are there" in explanation()


def test_a_driver_that_does_not_open_is_named_first(openable):
    assert "libcuda.so.1, a part of the driver, cannot be opened" in explanation()


def test_the_library_outside_of_tensorflows_search_path_is_opened_beforehand(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name, mode: opened.append(name))
    gpu_libraries.preload()
    assert opened == []
    library = tmp_path / "nvidia" / "cusolver" / "lib" / "libcusolver.so.11"
    library.parent.mkdir(parents=True)
    library.touch()
    gpu_libraries.preload()
    assert opened == [str(library)]


def test_a_library_that_does_not_open_beforehand_ends_nothing(openable, tmp_path):
    library = tmp_path / "nvidia" / "cusolver" / "lib" / "libcusolver.so.11"
    library.parent.mkdir(parents=True)
    library.touch()
    gpu_libraries.preload()
