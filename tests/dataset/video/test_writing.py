"""Videos written, and read again."""

import shutil
from fractions import Fraction

import numpy as np
import pytest

from dataset.video import Video, VideoWriter
from tests.builders import videos


def copy(source, target):
    """Write a video's frames to another, and read both."""
    with Video(source) as video:
        frames = list(video.frames())
        with VideoWriter(target, video) as writer:
            for frame in frames:
                writer.write(frame.image, frame.time)
    with Video(target) as video:
        return frames, list(video.frames()), video


def test_rate_times_and_pixels_are_kept(tmp_path):
    before, after, video = copy(videos.write(tmp_path / "a.mp4"), tmp_path / "b.mp4")
    assert [frame.time for frame in after] == [frame.time for frame in before]
    assert video.rate == videos.RATE
    assert abs(after[9].image.astype(int) - before[9].image).mean() < 3


@pytest.mark.parametrize("time_base", [None, Fraction(1, 10**9)])
def test_uneven_times_are_kept(tmp_path, time_base, monkeypatch):
    if time_base:
        monkeypatch.setattr(Video, "time_base", property(lambda _: time_base, lambda *_: None), raising=False)
    before, after, _ = copy(videos.write(tmp_path / "a.mkv", times=[0, 3, 60, 61, 200]), tmp_path / "b.mp4")
    assert [float(frame.time) for frame in after] == pytest.approx([float(frame.time) for frame in before], abs=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (65, 49), (401, 3)])
def test_any_size_is_written(tmp_path, size):
    width, height = size
    pictures = [np.full((height, width, 3), (90 + 9 * number, 40, 200), np.uint8) for number in range(3)]
    before, after, video = copy(videos.write_pictures(tmp_path / "a.avi", pictures), tmp_path / "b.mp4")
    assert video.size == (width + width % 2, height + height % 2)
    for first, second in zip(before, after, strict=True):
        assert abs(second.image[:height, :width].astype(int) - first.image).max() <= 4


def test_a_file_that_is_never_ended_plays(tmp_path):
    """As after a power cut; all but the newest frames, which the encoder holds."""
    with Video(videos.write(tmp_path / "a.mp4", frames=2)) as video:
        image = next(video.frames()).image
        with VideoWriter(tmp_path / "b.mp4", video) as writer:
            for number in range(200):
                writer.write(image, Fraction(number, 10))
            shutil.copy(tmp_path / "b.mp4", tmp_path / "killed.mp4")
    with Video(tmp_path / "killed.mp4") as killed:
        assert 100 <= len(list(killed.frames())) < 200
