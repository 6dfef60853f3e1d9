"""The demo's ways through pictures, videos and a camera, with a network that sees how bright a picture is."""

import json
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dataset.video import Frame, Video, VideoError
from net import demo
from net.demo import Detector
from net.prediction import whole_pictures
from tests.builders import videos
from tests.builders.configs import voc_config

MEAN_BGR = (103.94, 116.78, 123.68)


@pytest.fixture(params=[None, 40], ids=["whole", "tiles"])
def detector(request, monkeypatch):
    """Finds one object in each picture, whose score is its brightness, and whose class tells its quarter of 256."""
    config = voc_config(views__tile_size=request.param)

    def views(input_fn):
        for batch in input_fn():
            rows = {name: values.numpy() for name, values in batch.items()}
            for row, image in enumerate(rows["image"]):
                brightness = (image[150:, 150:] + MEAN_BGR).mean()
                found = {
                    "boxes_yxyx": np.array([[0.25, 0.5, 0.75, 1]], np.float32),
                    "scores": np.array([brightness / 256]),
                }
                others = {name: values[row] for name, values in rows.items() if name != "image"}
                yield {**others, **found, "classes": np.array([1 + int(brightness // 64)])}

    def predict_pictures(estimator, input_fn, checkpoint):
        return whole_pictures(views(input_fn), config.detection)

    monkeypatch.setattr(demo, "predict_pictures", predict_pictures)
    return Detector(SimpleNamespace(), "model.ckpt-1", config)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def brightest(entry):
    return 256 * entry["objects"][0]["score"]


def test_a_video_is_drawn_and_each_frame_has_its_own_detections(detector, tmp_path, capsys):
    path = videos.write(tmp_path / "a.mkv", times=[0, 10, 30, *range(40, 210, 10)])
    (tmp_path / "out").mkdir()
    demo.draw_video(detector, path, tmp_path / "out")
    entries = lines(tmp_path / "out/a.jsonl")
    assert [entry["frame"] for entry in entries] == list(range(20))
    assert [entry["time"] for entry in entries] == [0, 0.1, 0.3, *(round(0.1 * n, 1) for n in range(4, 21))]
    for entry in entries:
        assert brightest(entry) == pytest.approx(20 + 4 * entry["frame"], abs=8)
    with Video(tmp_path / "out/a.mp4") as drawn:
        frames = list(drawn.frames())
    assert [float(frame.time) for frame in frames] == [entry["time"] for entry in entries]
    for frame in frames if detector.config.views.tile_size is None else []:  # else labels cover much
        assert frame.image[40:46, 20:30].mean() == pytest.approx(20 + 4 * frame.number, abs=8)
    assert "drew 20 frames" in capsys.readouterr().out


def test_frames_of_a_video_are_taken_a_few_ahead(detector):
    taken = []

    def pictures():
        for number in range(100):
            taken.append(number)
            yield number, np.full((48, 64, 3), number, np.uint8)

    for number, image, found in detector.detect(pictures()):
        assert image[0, 0, 0] == number
        assert 256 * found["scores"][0] == pytest.approx(number, abs=0.01)
        assert len(taken) - number < 30


@pytest.mark.parametrize("kind", ["cut off", "size changes"])
def test_what_was_written_before_a_video_breaks_off_is_whole(detector, tmp_path, kind):
    path = tmp_path / "a.avi"
    if kind == "cut off":
        path = videos.cut(videos.write(tmp_path / "a.mkv", frames=50), 0.7)
    else:
        videos.write_changing(path, [(64, 48)] * 12 + [(32, 32)] * 3)
    (tmp_path / "out").mkdir()
    with pytest.raises(VideoError, match=kind):
        demo.draw_video(detector, path, tmp_path / "out")
    entries = lines(tmp_path / "out/a.jsonl")
    assert 10 < len(entries) < 50
    with Video(tmp_path / "out/a.mp4") as drawn:
        assert len(list(drawn.frames())) == len(entries)


def test_ctrl_c_leaves_whole_files(detector, tmp_path, monkeypatch):
    path = videos.write(tmp_path / "a.mp4")
    (tmp_path / "out").mkdir()
    draw, drawn = Detector.draw, []

    def interrupted(self, image, found):
        drawn.append(image)
        if len(drawn) == 8:
            raise KeyboardInterrupt
        return draw(self, image, found)

    monkeypatch.setattr(Detector, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.draw_video(detector, path, tmp_path / "out")
    with Video(tmp_path / "out/a.mp4") as video:
        assert len(list(video.frames())) == 7 == len(lines(tmp_path / "out/a.jsonl"))


def test_pictures_have_their_detections_in_one_list(detector, tmp_path):
    names = ["a.png", "b.png", "broken.png", "c.png"]
    for number, name in enumerate(names):
        Image.new("RGB", (64 + number, 48), (10 + 60 * number,) * 3).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    assert demo.draw_pictures(detector, [tmp_path / name for name in names], tmp_path / "out") == 1
    entries = json.loads((tmp_path / "out/detections.json").read_text())
    assert [entry["file"] for entry in entries] == [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    assert [(entry["width"], entry["height"]) for entry in entries] == [(64, 48), (65, 48), (67, 48)]
    assert [round(brightest(entry)) for entry in entries] == [10, 70, 190]
    assert entries[0]["objects"][0]["class"] == "class1" and entries[2]["objects"][0]["class"] == "class3"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"detections.json", "a.jpg", "b.jpg", "c.jpg"}


def test_a_failure_leaves_a_whole_list_and_one_at_the_start_the_older_list(detector, tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.new("RGB", (64, 48)).save(path)
    (tmp_path / "out").mkdir()
    draw, drawn = Detector.draw, []

    def interrupted(self, image, found):
        drawn.append(image)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(self, image, found)

    monkeypatch.setattr(Detector, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.draw_pictures(detector, paths, tmp_path / "out")
    written = (tmp_path / "out/detections.json").read_text()
    assert [entry["file"] for entry in json.loads(written)] == [str(path) for path in paths[:2]]

    def failing(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(demo, "predict_pictures", failing)
    with pytest.raises(ZeroDivisionError):
        demo.draw_pictures(detector, paths, tmp_path / "out")
    assert (tmp_path / "out/detections.json").read_text() == written


def test_no_picture_that_can_be_read_is_an_empty_list(detector, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    assert demo.draw_pictures(detector, [tmp_path / "broken.png"], tmp_path / "out") == 1
    assert json.loads((tmp_path / "out/detections.json").read_text()) == []


def entries(found, class_names):
    return Detector(None, "model.ckpt-1", voc_config(class_names=class_names)).entries(found)


def test_objects_have_names_scores_and_boxes_in_pixels():
    found = {
        "boxes_yxyx": np.array([[0.1, 0.2, 0.5, 1.0], [0, 0, 1, 1]], np.float32),
        "scores": np.array([0.91234567, 0.5], np.float32),
        "classes": np.array([2, 1], np.int32),
        "size": np.array([100, 200], np.int32),
    }
    first, second = json.loads(json.dumps(entries(found, ("cat", "dog"))))
    assert first == {"class": "dog", "score": 0.912346, "box": {"xmin": 40, "ymin": 10, "xmax": 200, "ymax": 50}}
    assert second == {"class": "cat", "score": 0.5, "box": {"xmin": 0, "ymin": 0, "xmax": 200, "ymax": 100}}


def test_nothing_found_is_an_empty_list():
    empty = {
        "boxes_yxyx": np.zeros((0, 4)),
        "scores": np.zeros(0),
        "classes": np.zeros(0, int),
        "size": np.array([9, 9]),
    }
    assert entries(empty, ("cat",)) == []


class _Camera:
    """Gives frames until it is closed."""

    name = "camera:3"

    def __init__(self, number):
        assert number == 3

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def frames(self):
        for number in range(10**6):
            yield Frame(number, Fraction(number), np.full((48, 64, 3), 100, np.uint8))


class _Window:
    """Is closed at the third picture."""

    def __init__(self, title):
        assert title == "camera:3"
        self.shown: list[Image.Image] = []

    __enter__, __exit__ = _Camera.__enter__, _Camera.__exit__

    def show(self, picture):
        self.shown.append(picture)
        return len(self.shown) < 3


def test_a_camera_is_shown_until_its_window_is_closed(detector, monkeypatch):
    window = _Window("camera:3")
    monkeypatch.setattr(demo, "Video", _Camera)
    monkeypatch.setattr(demo, "Window", lambda _: window)
    demo.show_camera(detector, 3)
    assert [picture.size for picture in window.shown] == [(64, 48)] * 3
