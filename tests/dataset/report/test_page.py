"""The page holds what it should, whatever the names, and stands alone."""

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from dataset.report.page import write_report
from dataset.report.scoring import ImageSet, score_results
from dataset.scores import voc_results
from dataset.scores.average_precision import evaluate
from dataset.scores.detection_store import ClassDetections
from dataset.sources import labels
from tests.builders.detections import annotate, detect, detect_everything

BOX, OTHER = (1, 1, 40, 40), (51, 51, 90, 95)
HEADINGS = (
    "Average precision by class",
    "Precision over recall",
    "F1 over the score",
    "Confusion matrix",
    "Average precision by object size",
    "Kinds of error",
    "Costliest pictures",
)
_VOID = {"meta", "img", "path", "polyline", "br"}


class Reader(HTMLParser):
    """Checks that tags are closed in order; collects text, and the tags of what users named."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert not re.search(r'(?:src|href)\s*=\s*"(?!data:)', page) and "url(" not in page and "//" not in reader.text
    text = "".join(reader.text)
    assert [heading for heading in HEADINGS if heading not in text] == []
    return reader, text


def report(tmp_path, annotations, detections, names, pictures=lambda annotations: {}, **settings):
    result = evaluate(detections, annotations, names, **settings)
    return write_report(tmp_path, annotations, result, pictures).read_text(encoding="utf-8")


def jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (100, 100), "grey").save(buffer, "JPEG")
    return buffer.getvalue()


def test_names_are_text_whatever_they_are(tmp_path):
    names = ('<script>alert("1")</script>', 'a & b\' "quoted"', "$x^2$", "猫", "{}", "x" * 300)
    image_id = '"><script>x</script>&amp;'
    annotations = [annotate(image_id, *((name, BOX) for name in names))]
    detections = {2: detect((image_id, 0.9, OTHER)), 3: detect((image_id, 0.5, BOX))}
    page = report(tmp_path, annotations, detections, names, lambda found: {found[0].image_id: jpeg()})
    reader, text = read(page)
    assert "script" not in reader.tags
    assert all(name in text for name in (*names[1:5], image_id)) and names[0][:39] in text
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("use_07_metric", [True, False])
def test_no_detections_and_a_class_without_objects(tmp_path, use_07_metric):
    page = report(tmp_path, [annotate("a", ("cat", BOX))], {}, ("cat", "dog"), use_07_metric=use_07_metric)
    _, text = read(page)
    assert "No detection is right, so no threshold is best." in text
    assert "mAP 0.0000" in text and "no detection at all" in text
    assert "–" in text


def test_a_perfect_detector_has_no_costly_picture(tmp_path):
    annotations = [annotate("a", ("cat", BOX))]
    _, text = read(report(tmp_path, annotations, {1: detect(("a", 7.5, BOX))}, ("cat",)))
    assert "There is no error in any picture." in text and "7.500" in text


def test_the_mean_over_sizes_is_of_the_classes_with_objects_in_the_group(tmp_path):
    small = (1, 1, 31, 31)
    annotations = [annotate("a", ("cat", small), ("dog", (1, 1, 40, 40)), ("cow", small))]
    page = report(tmp_path, annotations, {1: detect(("a", 0.5, small))}, ("cat", "dog", "cow", "owl"))
    cells = re.findall(r"<td>(.*?)</td>", page[page.index("<b>mean AP, all objects</b>") :])
    assert cells[:6] == ["0.500", "2", "0.000", "1", "–", "0"]


def test_pictures_are_inside_and_those_that_are_missing_or_broken_are_told(tmp_path):
    annotations = [annotate(name, ("cat", BOX)) for name in ("a", "b", "c")]
    detections = {1: detect(("a", 0.9, OTHER), ("b", 0.8, BOX))}
    files = {"a": jpeg(), "c": b"no picture"}
    page = report(tmp_path, annotations, detections, ("cat",), lambda found: files)
    _, text = read(page)
    assert page.count('src="data:image/jpeg;base64,') == 1
    assert "The files of 1 of these pictures were not found" in text
    assert "cat 0.90: background" in text and "cat: missed" in text


def test_many_classes_have_a_list_instead_of_a_matrix(tmp_path):
    names = tuple(f"class{number}" for number in range(150))
    annotations = [annotate("a", *((name, BOX) for name in names))]
    detections = {number: detect(("a", 0.9, BOX if number % 2 else OTHER)) for number in range(1, 150)}
    page = report(tmp_path, annotations, detections, names)
    _, text = read(page)
    assert "Drawn are the first 100 of 150 classes." in text and "the most frequent confusions" in text
    assert len(page) < 5_000_000


def test_the_sample_end_to_end(drawn_voc, tmp_path):
    images = ImageSet(drawn_voc, "VOC2007", "trainval")
    annotations = images.annotations()
    names = tuple(sorted({each.name for annotation in annotations for each in annotation.objects}))
    found = detect_everything(annotations, names)
    rng = np.random.default_rng(0)
    for class_id, some in found.items():
        moved = some.boxes_yxyx_px + rng.normal(0, 20, some.boxes_yxyx_px.shape)
        found[class_id] = ClassDetections(some.image_ids, rng.random(len(some)), moved)
    voc_results.write_results(tmp_path / "predict", found, len(names) + 1)
    labels.write_labels(tmp_path / "labels.txt", names)
    figures = score_results(images, tmp_path / "predict")
    path = tmp_path / "predict" / "eval_output" / "report.html"
    page = path.read_text(encoding="utf-8")
    _, text = read(page)
    assert f"mAP {figures['mAP']:.4f}" in text
    assert page.count("data:image/jpeg") == 12 and "not found, so only" not in text
    assert path.stat().st_size < 2_000_000
