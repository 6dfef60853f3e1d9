"""Detections in COCO's results format, and pycocotools' scores for them."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from dataset.records import record_files
from dataset.records.parsing import ground_truth_of
from dataset.scores import coco_results
from dataset.scores.detection_store import ClassDetections
from tests.builders.coco import CocoBuilder
from tests.builders.convert import convert_coco, convert_voc
from tests.builders.voc import VocBuilder, box

needs_pycocotools = pytest.mark.skipif(
    importlib.util.find_spec("pycocotools") is None, reason="pip install -r requirements-coco.txt"
)


@pytest.fixture
def builder(tmp_path):
    return CocoBuilder(tmp_path / "coco").add(7, (1, 2, 30, 20)).add(5, (8, 9, 10, 11), category_id=90)


def found_in(image_ids, scores, boxes_yxyx_px):
    return ClassDetections(np.array(image_ids), np.array(scores), np.array(boxes_yxyx_px, np.float64))


def coco_target(data_dir, annotations):
    target = coco_results.for_records(data_dir, annotations and str(annotations))
    assert target is not None
    return target


def converted(builder, output):
    validation = {"validation_annotations": builder.path, "validation_images": builder.folder}
    convert_coco(output_directory=output, num_threads=2, **validation)
    return output


def truth_as_detections(data_dir):
    """The objects in validation records that are no crowds, as detections with a score of 1."""
    names = record_files.class_names(str(data_dir), None)
    found: dict[int, list] = {}
    for annotation in ground_truth_of(record_files.find_shards(data_dir, "val"), names):
        for item in annotation.objects:
            if not item.difficult:
                rows = found.setdefault(names.index(item.name) + 1, [])
                rows.append((annotation.image_id, item.box_yxyx_px))
    return {
        class_id: found_in([row[0] for row in rows], np.ones(len(rows)), [row[1] for row in rows])
        for class_id, rows in found.items()
    }


def test_boxes_become_x_y_width_height_and_ids_those_of_coco():
    detections = {
        2: found_in(["12"], [0.25], [(1.5, 2, 11.75, 5)]),
        1: found_in(["9", "12"], [0.5, 0.75], [(0, 0, 40, 60), (1, 2, 3, 5)]),
    }
    assert coco_results.as_results(detections, [3, 90]) == [
        {"image_id": 9, "category_id": 3, "bbox": [0, 0, 60, 40], "score": 0.5},
        {"image_id": 12, "category_id": 3, "bbox": [2, 1, 3, 2], "score": 0.75},
        {"image_id": 12, "category_id": 90, "bbox": [2, 1.5, 3, 10.25], "score": 0.25},
    ]


def test_the_best_hundred_of_each_image_are_kept():
    rng = np.random.default_rng(0)
    detections = {}
    for class_id in (1, 2, 3):
        ids, scores = rng.integers(1, 4, 150).astype(str), rng.choice([0.2, 0.3, 0.4, 0.5], 150)
        detections[class_id] = found_in(ids, scores, np.tile([1, 1, 9, 9], (150, 1)))
    results = coco_results.as_results(detections, [1, 2, 3])
    for image_id in (1, 2, 3):
        every = [
            score
            for found in detections.values()
            for name, score in zip(found.image_ids, found.scores, strict=True)
            if name == str(image_id)
        ]
        assert len(every) > 100
        kept = [result["score"] for result in results if result["image_id"] == image_id]
        assert kept == sorted(every, reverse=True)[:100]


def test_the_file_is_json_and_keeps_scores_apart(tmp_path):
    path = tmp_path / "predict" / "detections.json"
    scores = np.array([0.3, np.nextafter(np.float32(0.3), np.float32(1))], np.float32)
    coco_results.write(path, [{1: found_in(["1", "1"], scores, np.tile([1, 1, 9, 9], (2, 1)))}], [44])
    read = json.loads(path.read_text())
    assert [np.float32(result["score"]) for result in read] == [scores[1], scores[0]]
    assert {result["category_id"] for result in read} == {44}
    coco_results.write(path, [{}], [44])
    assert json.loads(path.read_text()) == []


def key(entry):
    return entry["image_id"], entry["category_id"]


@needs_pycocotools
def test_ground_truth_as_detections_scores_one(coco_tiny, tmp_path):
    path = coco_tiny / "annotations" / "instances_val2017.json"
    data_dir = tmp_path / "records"
    convert_coco(validation_annotations=path, validation_images=coco_tiny / "val2017", output_directory=data_dir)
    perfect = truth_as_detections(data_dir)
    lines = coco_target(data_dir, None).finish(tmp_path, [perfect])
    assert "--coco_annotations" in lines[1] and "requirements-coco.txt" in lines[1]
    given = [entry for entry in json.loads(path.read_text())["annotations"] if not entry["iscrowd"]]
    results = json.loads((tmp_path / "detections.json").read_text())
    theirs, ours = (sorted(entries, key=lambda one: (*key(one), one["bbox"])) for entries in (given, results))
    assert [*map(key, theirs)] == [*map(key, ours)]
    boxes = [[entry["bbox"] for entry in entries] for entries in (theirs, ours)]
    np.testing.assert_allclose(boxes[0], boxes[1], atol=2e-3)

    target = coco_target(data_dir, path)
    lines = target.finish(tmp_path, [perfect])
    assert len(lines) == 13
    assert lines[1].startswith("Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all") and lines[1].endswith("1.000")
    figures, _ = coco_results.score(tmp_path / "detections.json", path)
    assert figures[:6] == pytest.approx([1] * 6, abs=1e-9)
    figures, _ = coco_results.score(tmp_path / "detections.json", without(path, tmp_path, ("area", "iscrowd")))
    assert 0.9 < figures[0] < 1  # crowds are objects to be found then
    for one in perfect.values():
        one.boxes_yxyx_px[:, 2:] += 1  # VOC's inclusive ends, which COCO does not have
    coco_results.write(tmp_path / "detections.json", [perfect], target.category_ids)
    assert coco_results.score(tmp_path / "detections.json", path)[0][0] < 0.96


def without(path, folder, keys):
    document = json.loads(path.read_text())
    for entry in document["annotations"]:
        for name in keys:
            del entry[name]
    (folder / "less.json").write_text(json.dumps(document))
    return folder / "less.json"


@needs_pycocotools
def test_no_detection_scores_zero_and_one_of_another_image_is_an_error(builder, tmp_path):
    path = tmp_path / "detections.json"
    coco_results.write(path, [{}], [3, 90])
    figures, lines = coco_results.score(path, builder.path)
    assert figures == [0] * 12 and "no detection" in lines[0]
    coco_results.write(path, [{1: found_in(["8"], [0.5], [(1, 1, 9, 9)])}], [3, 90])
    with pytest.raises(ValueError, match=r"detections in 1 images, the first 8, that .*instances\.json does not"):
        coco_results.score(path, builder.path)


def test_records_of_voc_have_no_coco_results(tmp_path, builder):
    VocBuilder(tmp_path / "voc").add("000001", box(1, 1, 30, 20))
    convert_voc(dataset_directory=tmp_path / "voc", output_directory=tmp_path / "records")
    assert coco_results.for_records(tmp_path / "records", None) is None
    with pytest.raises(ValueError, match=r"records in .* are not made with --format=coco"):
        coco_results.for_records(tmp_path / "records", str(builder.path))
    (tmp_path / "records" / "dataset.json").unlink()  # as records of the reference are
    assert coco_results.for_records(tmp_path / "records", None) is None


def test_annotations_of_another_set_are_refused_before_the_detection(builder, tmp_path):
    data_dir = converted(builder, tmp_path / "records")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json does not exist"):
        coco_results.for_records(data_dir, str(tmp_path / "nowhere.json"))
    builder.add(99)
    with pytest.raises(ValueError, match=r"has 3 images, but the validation records in .* were made of 2"):
        coco_results.for_records(data_dir, str(builder.path))
    builder.document["categories"][0]["name"] = "brush"
    builder.save()
    with pytest.raises(ValueError, match="has other categories"):
        coco_results.for_records(data_dir, str(builder.path))


def test_images_that_were_skipped_count_as_converted(builder, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    (builder.folder / "000000000005.jpg").unlink()
    validation = {"validation_annotations": builder.path, "validation_images": builder.folder}
    convert_coco(output_directory=tmp_path / "records", skip_bad_images=True, **validation)
    assert coco_target(tmp_path / "records", builder.path).category_ids == (3, 90)


def test_without_pycocotools_it_is_said_how_to_get_it(builder, tmp_path, monkeypatch):
    data_dir = converted(builder, tmp_path / "records")
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ValueError, match=r"pip install -r requirements-coco\.txt"):
        coco_results.for_records(data_dir, str(builder.path))


@needs_pycocotools
def test_the_score_follows_from_the_rank_of_the_right_box(builder, tmp_path):
    """Behind rank - 1 false boxes the right one has a precision of 1 / rank; the other class scores 1."""
    figures = {}
    for rank in (1, 4, 100):
        scores = np.linspace(0.9, 0.1, rank)
        boxes = np.tile([30.0, 1, 38, 5], (rank, 1))
        boxes[-1] = (2, 1, 22, 31)
        found = {1: found_in(["7"] * rank, scores, boxes), 2: found_in(["5"], [0.5], [(9, 8, 20, 18)])}
        coco_results.write(tmp_path / "detections.json", [found], [3, 90])
        figures[rank] = coco_results.score(tmp_path / "detections.json", builder.path)[0][0]
    assert figures == pytest.approx({rank: (1 / rank + 1) / 2 for rank in (1, 4, 100)})


def test_parts_of_the_images_are_written_one_after_the_other(tmp_path):
    parts = [{1: found_in(["9"], [0.5], [(1, 1, 9, 9)])}, {}, {2: found_in(["4", "4"], [0.2, 0.3], [(1, 1, 9, 9)] * 2)}]
    coco_results.write(tmp_path / "detections.json", iter(parts), [3, 90])
    read = json.loads((tmp_path / "detections.json").read_text())
    assert [(result["image_id"], result["score"]) for result in read] == [(9, 0.5), (4, 0.3), (4, 0.2)]
    with pytest.raises(IndexError):
        coco_results.write(tmp_path / "detections.json", (parts[number] for number in range(9)), [3, 90])
    assert [path.name for path in tmp_path.iterdir()] == ["detections.json"]
    assert json.loads((tmp_path / "detections.json").read_text()) == read


@needs_pycocotools
@pytest.mark.parametrize("first_id", [0, 1])
def test_annotation_ids_may_begin_with_0(builder, tmp_path, first_id):
    """As globox, Label Studio and pylabel number them."""
    for number, entry in enumerate(builder.document["annotations"], start=first_id):
        entry["id"] = number
    builder.save()
    found = [entry for entry in builder.document["annotations"] if not entry.get("iscrowd")]
    results = [{name: entry[name] for name in ("image_id", "category_id", "bbox")} | {"score": 0.9} for entry in found]
    (tmp_path / "detections.json").write_text(json.dumps(results))
    figures, _ = coco_results.score(tmp_path / "detections.json", builder.path)
    assert len(found) > 0 and figures[0] == pytest.approx(1.0)
