"""What --input names, and where it is drawn to."""

import os
from pathlib import Path

import pytest

from dataset import video
from dataset.video import Inputs


def test_pictures_folders_videos_and_cameras_are_told_apart(tmp_path):
    for name in ("b.png", "a.JPG", "c.mp4", "d.txt"):
        (tmp_path / name).touch()
    folder = (tmp_path / "a.JPG", tmp_path / "b.png")
    assert video.read([str(tmp_path)]) == Inputs(folder)
    assert video.read([str(tmp_path), "x.MOV", "y.jpg"]) == Inputs((*folder, Path("y.jpg")), (Path("x.MOV"),))
    assert video.read(["camera:2"]) == Inputs(camera=2)


@pytest.mark.parametrize(
    "asked", [["camera:"], ["camera:x"], ["camera:-1"], ["camera:0", "a.jpg"], ["a.jpg", "camera:0"]]
)
def test_a_camera_has_a_number_and_is_alone(asked):
    with pytest.raises(ValueError, match="a camera is camera:0"):
        video.read(asked)


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="there is no picture"):
        video.read([str(tmp_path)])


def test_the_output_is_never_the_input(tmp_path):
    video, other = tmp_path / "a.mp4", tmp_path / "other"
    video.touch()
    other.mkdir()
    os.link(video, other / "a.mp4")
    (tmp_path / "linked").symlink_to(tmp_path)
    for output in (tmp_path, other, tmp_path / "linked", tmp_path / "other" / ".."):
        with pytest.raises(ValueError, match=r"a\.mp4 would be drawn over"):
            video.check(Inputs(videos=(video,)), output)


def test_two_videos_are_not_drawn_to_one_file(tmp_path):
    paths = (tmp_path / "a.avi", tmp_path / "a.mov")
    with pytest.raises(ValueError, match=r"a\.mov would be drawn over .*a\.avi"):
        video.check(Inputs(videos=paths), tmp_path / "drawn")
