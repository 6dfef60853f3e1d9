"""A batch that this machine cannot hold is refused with an estimate that is not above the truth."""

import pytest

from tests.builders.configs import voc_config
from utility.config import memory

GB = 10**9


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    monkeypatch.setattr(memory, "has_gpu", lambda: False)
    monkeypatch.setattr(memory, "memory_bytes", lambda: 8 * GB)


def test_a_training_step_that_this_machine_cannot_hold(monkeypatch):
    memory.check_training(voc_config(), 64, "")
    memory.check_training(voc_config(), 4096, "", parts=128)
    memory.check_training(voc_config(), 128, "", mixed_precision=True)
    message = r"^128 images of 300x300 pixels at once take 14\.4 GB or more, and this machine has 8\.0 GB: take less$"
    with pytest.raises(ValueError, match=message):
        memory.check_training(voc_config(), 128, "take less")
    monkeypatch.setattr(memory, "has_gpu", lambda: True)  # whose memory counts, and is not known here
    memory.check_training(voc_config(), 128, "take less")


def test_detection_keeps_no_maps():
    memory.check_detection(voc_config(), 256, "")
    with pytest.raises(ValueError, match=r"^4096 images of 300x300 pixels at once take 98\.8 GB or more.*: take less$"):
        memory.check_detection(voc_config(), 4096, "take less")
    with pytest.raises(ValueError, match=r"^an image of 16384x16384 pixels takes"):
        memory.check_detection(voc_config(network__image_size=(16384, 16384)), 1, "")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (["max"], None),
        (["1000000"], 10**6),
        (["9223372036854771712"], None),
        ([None, "2000000"], 2 * 10**6),
        ([], None),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path, monkeypatch, limits, expected):
    monkeypatch.undo()
    files = [tmp_path / str(number) for number in range(2)]
    for path, text in zip(files, limits, strict=False):
        if text:
            path.write_text(f"{text}\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", files)
    monkeypatch.setattr(memory.os, "sysconf", lambda _: 4096)
    assert memory.memory_bytes() == (expected or 4096**2)
