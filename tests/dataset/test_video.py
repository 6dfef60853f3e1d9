"""What the demo is given, frames of videos with their times, what is said of broken ones, and videos written."""

import os
import shutil
import sys
import threading
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dataset import video
from dataset.video import Frame, Video, VideoError, newest, video_writer
from tests.builders import videos


def test_pictures_folders_videos_and_cameras_are_told_apart(tmp_path):
    for name in ("b.png", "a.JPG", "c.mp4", "d.txt"):
        (tmp_path / name).touch()
    folder, output = [tmp_path / "a.JPG", tmp_path / "b.png"], tmp_path / "drawn"
    assert video.parse_inputs([str(tmp_path)], output) == (folder, [], None)
    mixed = video.parse_inputs([str(tmp_path), "x.MOV", "y.jpg"], output)
    assert mixed == ([*folder, Path("y.jpg")], [Path("x.MOV")], None)
    assert video.parse_inputs(["camera:2"], output) == ([], [], 2)


@pytest.mark.parametrize(
    "asked", [["camera:"], ["camera:x"], ["camera:-1"], ["camera:0", "a.jpg"], ["a.jpg", "camera:0"]]
)
def test_a_camera_has_a_number_and_is_alone(asked):
    with pytest.raises(ValueError, match="a camera is camera:0"):
        video.parse_inputs(asked, Path("drawn"))


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="there is no picture"):
        video.parse_inputs([str(tmp_path)], tmp_path / "drawn")


def test_the_output_is_never_the_input(tmp_path):
    path, other = tmp_path / "a.mp4", tmp_path / "other"
    path.touch()
    other.mkdir()
    os.link(path, other / "a.mp4")
    (tmp_path / "linked").symlink_to(tmp_path)
    for output in (tmp_path, other, tmp_path / "linked", tmp_path / "other" / ".."):
        with pytest.raises(ValueError, match=r"a\.mp4 would be drawn over"):
            video.parse_inputs([str(path)], output)


def test_two_videos_are_not_drawn_to_one_file(tmp_path):
    paths = [str(tmp_path / "a.avi"), str(tmp_path / "a.mov")]
    with pytest.raises(ValueError, match=r"a\.mov would be drawn over .*a\.avi"):
        video.parse_inputs(paths, tmp_path / "drawn")


def read(path):
    with Video(path) as video:
        return list(video.frames()), video


def times(frames):
    return [round(float(frame.time), 3) for frame in frames]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
def test_frames_come_in_order_with_their_times(tmp_path, suffix):
    frames, video = read(videos.write(tmp_path / f"a.{suffix}"))
    assert [frame.number for frame in frames] == list(range(20))
    assert times(frames) == [number / 10 for number in range(20)]
    assert video.size == (64, 48) and (suffix == "ts" or video.length == 20)  # TS has no header that tells
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert abs(frame.image.astype(int) - videos.picture(frame.number))[20:40, 24:].max() < 8


def test_uneven_times_are_kept_from_the_first_frame_on(tmp_path):
    frames, _ = read(videos.write(tmp_path / "a.mkv", times=[50, 53, 60, 100, 101]))
    assert times(frames) == [0, 0.03, 0.1, 0.5, 0.51]


def test_pixels_are_those_of_a_video_without_loss(tmp_path):
    pictures = [np.random.RandomState(seed).randint(0, 256, (7, 5, 3), np.uint8) for seed in range(4)]
    frames, _ = read(videos.write_pictures(tmp_path / "a.avi", pictures))
    np.testing.assert_array_equal([frame.image for frame in frames], pictures)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_the_rotation_of_phones_is_applied(tmp_path, degrees):
    """Degrees are counterclockwise, as in FFmpeg."""
    frames, video = read(videos.write(tmp_path / "a.mp4", frames=2, rotation=degrees))
    expected = np.rot90(videos.picture(0), degrees // 90)
    assert video.size == expected.shape[1::-1]
    assert np.abs(frames[0].image.astype(int) - expected).mean() < 8


def frames_and_error(path):
    frames = []
    with Video(path) as video, pytest.raises(VideoError) as caught:
        for frame in video.frames():  # those before the error stay
            frames.append(frame)
    assert str(caught.value).startswith(f"{path}: ")
    return frames, str(caught.value)


def open_error(path):
    with pytest.raises(VideoError) as caught:
        Video(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_what_is_no_video_is_said(tmp_path):
    for content in (b"", b"hello" * 100):
        (tmp_path / "a.mp4").write_bytes(content)
        assert "this is no video, or it is cut off" in open_error(tmp_path / "a.mp4")
    assert "No such file" in open_error(tmp_path / "none.mp4")
    assert "directory" in open_error(tmp_path)
    with wave.open(str(tmp_path / "sound.avi"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    assert "there is no video in this file" in open_error(tmp_path / "sound.avi")


def test_a_video_without_frames_is_said(tmp_path):
    assert "no video" in open_error(videos.write(tmp_path / "a.mp4", frames=0))
    assert "no frames" in open_error(videos.write(tmp_path / "a.avi", frames=0))


@pytest.mark.parametrize(("name", "options"), [("a.mp4", {"movflags": "+faststart"}), ("a.mkv", {})])
def test_a_video_that_is_cut_off_gives_what_is_whole(tmp_path, name, options):
    path = videos.cut(videos.write(tmp_path / name, frames=50, **options), 0.7)
    frames, message = frames_and_error(path)
    assert 5 < len(frames) < 50
    assert f"is cut off: there are {len(frames)} frames" in message and "of its 5.0 seconds" in message


def test_a_change_of_size_ends_the_video(tmp_path):
    frames, message = frames_and_error(videos.write_changing(tmp_path / "a.avi", [(64, 48)] * 6 + [(32, 32)] * 3))
    assert len(frames) == 6
    assert "the size changes from 64x48 to 32x32 at frame 6" in message


def test_damage_in_the_middle_is_counted_and_passed_over(tmp_path):
    path = videos.write_changing(tmp_path / "a.avi", [(64, 48)] * 9)
    content = path.read_bytes()
    start = content.index(b"\xff\xd8", content.index(b"\xff\xd8") + 2)
    path.write_bytes(content[:start] + bytes(200) + content[start + 200 :])
    frames, message = frames_and_error(path)
    assert len(frames) == 8 and "1 damaged parts were left out; 8 frames were whole" in message


def test_a_camera_that_is_not_there_is_said():
    with pytest.raises(VideoError, match=r"^camera:97: cannot be opened: "):
        Video(97)


def test_without_the_package_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r"pip install -r requirements-video\.txt"):
        Video(tmp_path / "a.mp4")


def test_of_a_camera_only_the_newest_frame_is_taken():
    seen, go_on, stop = threading.Event(), threading.Event(), threading.Event()

    def frames():
        yield frame(0)
        assert go_on.wait(10)
        yield from map(frame, range(1, 50))
        seen.set()
        assert stop.wait(10)
        yield frame(50)

    taken = newest(frames(), stop)
    assert next(taken).number == 0
    go_on.set()
    assert seen.wait(10)
    assert next(taken).number == 49
    stop.set()
    assert list(taken) == []


def test_a_camera_that_breaks_off_raises_its_error():
    def frames():
        yield from ()
        raise VideoError("camera:0: breaks off")

    with pytest.raises(VideoError, match="breaks off"):
        list(newest(frames(), threading.Event()))


def frame(number):
    return Frame(number, Fraction(number, 10), np.zeros((2, 2, 3), np.uint8))


def test_a_video_is_not_closed_under_a_thread_that_decodes(tmp_path, monkeypatch):
    video = Video(videos.write(tmp_path / "a.mkv", frames=50))
    inside, go_on, order = threading.Event(), threading.Event(), []

    def slow(packets):
        for packet in packets:
            inside.set()
            go_on.wait(10)
            order.append("decoded")
            yield packet

    class Container:
        def close(self, close=video._container.close):
            order.append("closed")
            close()

    def read():
        with pytest.raises(VideoError, match="was closed"):
            for frame in video.frames():
                assert frame.image.shape == (48, 64, 3)
        order.append("ended")

    monkeypatch.setattr(video, "_packets", slow(video._packets))
    monkeypatch.setattr(video, "_container", Container())
    reader = threading.Thread(target=read)
    reader.start()
    assert inside.wait(10)
    closer = threading.Thread(target=video.__exit__)
    closer.start()
    closer.join(0.2)
    assert closer.is_alive() and order == []
    go_on.set()
    closer.join(10)
    reader.join(10)
    assert order[0] == "decoded" and sorted(order[1:]) == ["closed", "ended"]


def copy(source, target):
    """Write a video's frames to another, and read both."""
    with Video(source) as video:
        frames = list(video.frames())
        with video_writer(target, video) as write:
            for frame in frames:
                write(frame.image, frame.time)
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
        with video_writer(tmp_path / "b.mp4", video) as write:
            for number in range(200):
                write(image, Fraction(number, 10))
            shutil.copy(tmp_path / "b.mp4", tmp_path / "killed.mp4")
    with Video(tmp_path / "killed.mp4") as killed:
        assert 100 <= len(list(killed.frames())) < 200
