"""The metric against golden numbers, against the devkit's loops in plain Python, and as a user runs it."""

import itertools
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import voc_eval
from dataset.scores import detection_matching, voc_results
from dataset.sources import labels, voc_files
from dataset.sources.annotations import Annotation, LabelledObject
from utility.benchmark import write_random_voc
from utility.drawing.curves import draw_precision_recall

CLASSES = ("cat", "dog", "owl")


def annotate(image_id, *objects):
    """Objects are (name, box) or (name, box, difficult)."""
    items = tuple(LabelledObject(name, box, any(mark), False) for name, box, *mark in objects)
    return Annotation(image_id, Path(f"{image_id}.xml"), 100, 100, items)


def detect(*rows):
    """Rows of (image_id, score, box)."""
    return voc_results.Detections(*(np.array([row[column] for row in rows]) for column in range(3)))


def detect_everything(annotations, class_names):
    """The ground truth as detections, as they come from records: float32 fractions times the image's size.

    A record holds no object without area.
    """
    rows: dict[str, list] = {name: [] for name in class_names}
    for annotation in annotations:
        size = np.array([annotation.height, annotation.width] * 2, dtype=np.float32)
        for item in annotation.objects:
            ymin, xmin, ymax, xmax = item.box_yxyx_px
            if ymax > ymin and xmax > xmin:
                box = (np.array(item.box_yxyx_px) / size).astype(np.float32) * size
                rows[item.name].append((annotation.image_id, 1.0, box))
    return {class_id: detect(*rows[name]) for class_id, name in enumerate(class_names, start=1)}


def slow_iou(a, b):
    height = min(a[2], b[2]) - max(a[0], b[0]) + 1
    width = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if height <= 0 or width <= 0:
        return 0.0
    area = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return height * width / (area[0] + area[1] - height * width)


def slow_ap(found, annotations, name, iou_threshold, use_07_metric):
    """VOCevaldet.m and VOCap.m in plain Python: (average precision, true positives, ignored)."""
    truth = {a.image_id: [item for item in a.objects if item.name == name] for a in annotations}
    to_find = sum(not item.difficult for items in truth.values() for item in items)
    rows = sorted(zip(found.image_ids, found.scores, found.boxes_yxyx_px, strict=True), key=lambda row: -row[1])
    taken, outcomes, ignored = set(), [], 0
    for image_id, _, box in rows:
        best, best_iou = -1, -math.inf
        for index, item in enumerate(truth[image_id]):
            if (iou := slow_iou(box, item.box_yxyx_px)) > best_iou:
                best, best_iou = index, iou
        if best_iou < iou_threshold:
            outcomes.append(0)
        elif truth[image_id][best].difficult:
            ignored += 1
        else:
            outcomes.append(int((image_id, best) not in taken))
            taken.add((image_id, best))
    hits = [sum(outcomes[: i + 1]) for i in range(len(outcomes))]
    recall = [hit / to_find for hit in hits] if to_find else []
    precision = [hit / (i + 1) for i, hit in enumerate(hits)]
    return slow_curve(recall, precision, use_07_metric) if to_find else None, sum(outcomes), ignored


def slow_curve(recall, precision, use_07_metric):
    def best(at_least):
        return max((p for r, p in zip(recall, precision, strict=True) if r >= at_least), default=0.0)

    if use_07_metric:
        return sum(best(threshold) for threshold in np.arange(0.0, 1.1, 0.1)) / 11
    steps = [0.0, *recall]
    return sum((after - before) * best(after) for before, after in itertools.pairwise(steps))


@pytest.mark.parametrize("metric", ["11point", "area"])
def test_golden_numbers(golden, metric):
    expected = json.loads((golden / "voc_ap" / "expected.json").read_text())
    names = tuple(expected["counts"])
    ids = voc_files.read_image_set(golden / "voc_ap", "test")
    annotations = [
        voc_files.read_annotation(voc_files.annotation_path(golden / "voc_ap", image_id)) for image_id in ids
    ]
    dets = golden / "voc_ap" / "dets"
    found = {class_id: voc_results.read_results(voc_results.results_path(dets, class_id)) for class_id in range(1, 6)}
    result = voc_eval.evaluate(found, annotations, names, use_07_metric=metric == "11point")
    assert result.mean_ap == pytest.approx(expected[metric]["mAP"], abs=1e-6)
    for name, counts in expected["counts"].items():
        score = result.classes[name]
        assert score.ap == pytest.approx(expected[metric][name], abs=1e-6)
        assert score.ground_truth + score.difficult == counts["gt"]
        assert (score.difficult, score.detections) == (counts["difficult"], counts["dets"])


SIDES = st.integers(1, 12)
BOXES = st.tuples(SIDES, SIDES, SIDES, SIDES).map(lambda b: (min(b[0], b[2]), b[1], max(b[0], b[2]) + 1, b[3] + 12))
OBJECTS = st.lists(st.tuples(st.sampled_from(CLASSES[:2]), BOXES, st.booleans()), max_size=4)
SCORES = st.sampled_from([0.1, 0.5, 0.5000001, 0.9, 1.0])
LOOSE_BOXES = st.tuples(*[st.integers(-3, 26)] * 4)
ROWS = st.lists(st.tuples(st.sampled_from("abc"), SCORES, BOXES | LOOSE_BOXES), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.tuples(OBJECTS, OBJECTS, OBJECTS), ROWS, st.sampled_from([0.01, 0.3, 0.5, 0.75, 1.0]), st.booleans())
def test_evaluate_agrees_with_the_devkits_loops(objects, rows, iou_threshold, use_07_metric):
    annotations = [annotate("c", ("owl", (1, 1, 2, 2)), *objects[0]), annotate("a", *objects[1])]
    annotations.append(annotate("b", *objects[2]))
    found = detect(*rows)
    result = voc_eval.evaluate(dict.fromkeys((1, 2, 3), found), annotations, CLASSES, iou_threshold, use_07_metric)
    for name in CLASSES:
        ap, true_positives, ignored = slow_ap(found, annotations, name, iou_threshold, use_07_metric)
        score = result.classes[name]
        assert (score.true_positives, score.ignored) == (true_positives, ignored)
        assert score.ap == pytest.approx(ap, abs=1e-12)
    assert result.mean_ap == pytest.approx(np.mean([s.ap for s in result.classes.values() if s.ap is not None]))


def test_more_detections_than_fit_into_one_block(monkeypatch):
    rng = np.random.default_rng(3)
    corners = rng.integers(1, 60, [400, 2])
    boxes = np.hstack([corners, corners + rng.integers(10, 40, [400, 2])])
    annotations = [
        annotate(str(i), *[("cat", box, box[0] % 5 == 0) for box in boxes[i * 10 : i * 10 + 10]]) for i in range(20)
    ]
    found = detect(*[(str(rng.integers(20)), rng.random(), box) for box in boxes])
    whole = voc_eval.evaluate({1: found}, annotations, ("cat",), 0.3)
    assert whole.classes["cat"].ap == pytest.approx(slow_ap(found, annotations, "cat", 0.3, True)[0], abs=1e-12)
    monkeypatch.setattr(detection_matching, "_BLOCK", 7)
    assert voc_eval.evaluate({1: found}, annotations, ("cat",), 0.3) == whole


@pytest.fixture(params=["voc_sample-VOC2007", "voc_sample-VOC2007TEST", "bccd-VOC2007", "bccd-VOC2007TEST"])
def genuine(request, tmp_path):
    """A genuine split and its own ground truth as predictions: the arguments of `run`."""
    data, split = request.param.split("-")
    split_dir = request.getfixturevalue(data) / split
    image_set = "test" if split.endswith("TEST") else "trainval"
    ids = voc_files.read_image_set(split_dir, image_set)
    annotations = [voc_files.read_annotation(voc_files.annotation_path(split_dir, image_id)) for image_id in ids]
    names = labels.VOC_CLASSES if data == "voc_sample" else ("Platelets", "RBC", "WBC")
    labels.write_labels(tmp_path / "labels.txt", names)
    pred_dir = tmp_path / "predict"
    voc_results.write_results(pred_dir, detect_everything(annotations, names), len(names) + 1)
    return {
        "dataset_directory": split_dir.parent, "split": split, "image_set": image_set, "pred_dir": pred_dir
    }  # fmt: skip


@pytest.mark.parametrize("use_07_metric", [True, False])
@pytest.mark.parametrize("iou_threshold", [0.5, 0.75, 0.95])
def test_ground_truth_scores_exactly_1(genuine, capsys, iou_threshold, use_07_metric):
    figures = voc_eval.run(**genuine, iou_threshold=iou_threshold, use_07_metric=use_07_metric)
    assert figures["mAP"] == 1.0
    assert {score["ap"] for score in figures["classes"].values()} <= {1.0, None}
    assert "Mean AP = 1.0000\n" in capsys.readouterr().out


def test_small_boxes_keep_their_pixels():
    """Eight pixels a side: two pixels off is an IoU of .5 or less."""
    annotations = [annotate("a", ("cat", (1, 1, 8, 8)), ("cat", (93, 93, 100, 100)))]
    found = detect_everything(annotations, ("cat",))
    assert voc_eval.evaluate(found, annotations, ("cat",), 0.999).mean_ap == 1.0
    shifted = voc_results.Detections(found[1].image_ids, found[1].scores, found[1].boxes_yxyx_px + 2)
    assert voc_eval.evaluate({1: shifted}, annotations, ("cat",)).mean_ap == 0.0


def test_an_iou_equal_to_the_threshold_is_enough():
    annotations = [annotate("a", ("cat", (1, 1, 10, 10)))]
    assert voc_eval.evaluate({1: detect(("a", 1, (1, 1, 5, 10)))}, annotations, ("cat",)).mean_ap == 1.0
    assert voc_eval.evaluate({1: detect(("a", 1, (1, 1, 4, 10)))}, annotations, ("cat",)).mean_ap == 0.0


def test_difficult_objects_count_for_nothing():
    easy, hard = (1, 1, 20, 20), (41, 41, 60, 60)
    annotations = [annotate("a", ("cat", easy), ("cat", hard, True))]
    found = detect(("a", 0.9, hard), ("a", 0.8, hard), ("a", 0.7, easy))
    score = voc_eval.evaluate({1: found}, annotations, ("cat",)).classes["cat"]
    assert (score.ap, score.ground_truth, score.difficult) == (1.0, 1, 1)
    assert (score.detections, score.true_positives, score.ignored) == (3, 1, 2)


def test_a_second_detection_of_an_object_is_a_false_positive():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)), ("cat", (41, 41, 60, 60)))]
    found = detect(("a", 0.9, (1, 1, 20, 20)), ("a", 0.8, (1, 1, 20, 20)), ("a", 0.7, (41, 41, 60, 60)))
    score = voc_eval.evaluate({1: found}, annotations, ("cat",), use_07_metric=False).classes["cat"]
    assert score.true_positives == 2
    assert score.ap == pytest.approx((1 + 2 / 3) / 2)
    assert score.precision_at_recall == pytest.approx([1.0] * 6 + [2 / 3] * 5)


@pytest.mark.parametrize("place", [0, 1, 99, 199])
def test_equal_scores_keep_the_order_of_the_file(place):
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)))]
    rows = [("a", 0.5, (60, 60, 90, 90))] * 200
    rows[place] = ("a", 0.5, (1, 1, 20, 20))
    assert voc_eval.evaluate({1: detect(*rows)}, annotations, ("cat",)).mean_ap == pytest.approx(1 / (place + 1))


def test_images_outside_of_the_set_do_not_change_the_score():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)))]
    inside, outside = ("a", 0.5, (1, 1, 20, 20)), ("b", 0.9, (1, 1, 20, 20))
    score = voc_eval.evaluate({1: detect(outside, inside)}, annotations, ("cat",)).classes["cat"]
    assert (score.ap, score.detections) == (1.0, 1)


def test_classes_without_ground_truth_or_detections():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)), ("owl", (1, 1, 20, 20), True)), annotate("empty")]
    everywhere = detect(("a", 0.9, (1, 1, 20, 20)), ("empty", 0.9, (1, 1, 20, 20)))
    result = voc_eval.evaluate({2: everywhere, 3: everywhere}, annotations, CLASSES)
    assert [score.ap for score in result.classes.values()] == [0.0, None, None]
    assert result.mean_ap == 0.0
    assert voc_eval.format_report(result) == [
        "AP for cat = 0.0000",
        "AP for dog = n/a (no ground truth)",
        "AP for owl = n/a (no ground truth)",
        "Mean AP = 0.0000",
    ]


def test_broken_boxes_do_not_break_the_score():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)), ("cat", (5, 5, 5, 5)), ("cat", (9, 9, 1, 1)))]
    boxes = [(9, 9, 1, 1), (5, 5, 5, 5), (-9, -9, -5, -5), (1, 1, 20, 20), (1e9, 1e9, 1e9, 1e9)]
    result = voc_eval.evaluate({1: detect(*[("a", 0.5, box) for box in boxes])}, annotations, ("cat",), 1e-9)
    assert (result.classes["cat"].ground_truth, result.classes["cat"].true_positives) == (1, 1)
    assert result.warnings == ("2 objects without area are left out, the first in image 'a'.",)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, math.nan])
def test_bad_thresholds(threshold):
    with pytest.raises(ValueError, match="iou_threshold is"):
        voc_eval.evaluate({}, [annotate("a", ("cat", (1, 1, 2, 2)))], CLASSES, threshold)


@pytest.mark.parametrize("class_id", [0, 4])
def test_a_class_id_without_a_name_is_refused(class_id):
    with pytest.raises(ValueError, match=rf"class ids \[{class_id}\], but there are 3 class names"):
        voc_eval.evaluate({class_id: detect(("a", 1, (1, 1, 2, 2)))}, [annotate("a")], CLASSES)


def test_a_score_of_0_has_its_reason():
    annotations = [annotate("a", ("cat", (1, 1, 20, 20)), ("rat", (1, 1, 20, 20)))]

    def warnings(*rows):
        return " ".join(voc_eval.evaluate({1: detect(*rows)}, annotations, CLASSES).warnings)

    assert "no detection at all" in warnings()
    assert "1 objects of classes that are not in the labels are left out: rat (1)" in warnings()
    strangers = warnings(("a", 1, (1, 1, 9, 9)), ("x", 1, (1, 1, 9, 9)), ("x", 1, (1, 1, 9, 9)))
    assert "2 detections are left out, for their 1 images, such as 'x', are not in the image set" in strangers
    assert "fractions of the image" in warnings(("a", 1, (0, 0, 1, 0.5)))
    assert "fractions" not in strangers
    with pytest.raises(ValueError, match=r"none of the 1 detections is in one of the 1 images.*'x'"):
        warnings(("x", 1, (1, 1, 9, 9)))


def test_nothing_to_find_is_an_error():
    with pytest.raises(ValueError, match=r"nothing to find of the 3 classes \(cat, dog, owl\).*rat \(1\)"):
        voc_eval.evaluate({}, [annotate("a", ("rat", (1, 1, 20, 20)))], CLASSES)
    with pytest.raises(ValueError, match="'a' is annotated twice"):
        voc_eval.evaluate({}, [annotate("a"), annotate("a")], CLASSES)


@pytest.fixture
def golden_root(golden, tmp_path):
    """The golden annotations as a VOCROOT, with a model directory whose predictions are the golden ones."""
    shutil.copytree(golden / "voc_ap" / "Annotations", tmp_path / "root" / "VOC2007TEST" / "Annotations")
    shutil.copytree(golden / "voc_ap" / "ImageSets", tmp_path / "root" / "VOC2007TEST" / "ImageSets")
    (tmp_path / "model" / "predict").mkdir(parents=True)
    for path in (golden / "voc_ap" / "dets").glob("results_*.txt"):
        shutil.copyfile(path, tmp_path / "model" / "predict" / path.name)
    return tmp_path


def run_golden(golden_root, **settings):
    arguments = {"dataset_directory": golden_root / "root", "pred_dir": golden_root / "model" / "predict"}
    return voc_eval.run(**{**arguments, **settings})


def test_run_prints_and_writes_its_figures(golden_root, capsys):
    figures = run_golden(golden_root)
    printed = capsys.readouterr()
    assert "AP for aeroplane = 0.3985\n" in printed.out
    assert "AP for bus = n/a (no ground truth)\n" in printed.out
    assert printed.out.endswith("Mean AP = 0.3705\n")
    assert "warning: There is no results file for bus, car, cat" in printed.err
    path = golden_root / "model" / "predict" / "eval_output" / "voc_eval.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(figures))
    assert (figures["metric"], figures["images"], figures["split"]) == ("11-point", 30, "VOC2007TEST")
    assert figures["classes"]["aeroplane"]["ground_truth"] == 27
    assert not list(path.parent.glob(".*.tmp"))


@pytest.mark.parametrize(("classes", "rows"), [(1, 1), (5, 1), (7, 2)])
def test_precision_over_recall_is_drawn_for_each_class(tmp_path, classes, rows):
    """A class with precision 1 throughout fills its plot, one with 0 leaves it white."""
    shaded = []
    for precision in (0.0, 1.0):
        path = tmp_path / f"{precision}.png"
        draw_precision_recall({f"class{n}": (precision, [precision] * 11) for n in range(classes)}, path)
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        shaded.append((pixels.max(-1) - pixels.min(-1) > 20).mean())  # the colour of the area
        assert abs(pixels.shape[0] - 120 * (2.0 * rows + 1)) < 2
    assert shaded[0] < 0.03 and shaded[1] > 0.3


def test_run_takes_labels_from_beside_the_predictions(golden_root, capsys):
    names = labels.VOC_CLASSES[:5]
    labels.write_labels(golden_root / "model" / "labels.txt", names)
    assert tuple(run_golden(golden_root)["classes"]) == names
    assert capsys.readouterr().err == ""
    labels.write_labels(golden_root / "model" / "predict" / "labels.txt", names[::-1])
    assert tuple(run_golden(golden_root)["classes"]) == names[::-1]
    figures = run_golden(
        golden_root,
        labels_file=golden_root / "model" / "labels.txt",
        output_directory=golden_root / "figures",
        use_07_metric=False,
    )
    assert figures["mAP"] == pytest.approx(0.3653078854154826, abs=1e-6)
    assert json.loads((golden_root / "figures" / "voc_eval.json").read_text())["metric"] == "area"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset_directory": ""}, "--dataset_directory is not set"),
        ({"split": "VOC2012TEST"}, "VOC2012TEST does not exist: check --dataset_directory and --split"),
        ({"image_set": "val"}, r"val\.txt does not exist; sets in that folder: test"),
        ({"pred_dir": "nowhere"}, "--pred_dir nowhere holds no results"),
        ({"labels_file": "nowhere.txt"}, r"labels file nowhere\.txt does not exist"),
        ({"iou_threshold": 50.0}, "iou_threshold is 50"),
    ],
)
def test_run_names_what_is_wrong(golden_root, settings, message):
    with pytest.raises((ValueError, OSError), match=message) as caught:
        run_golden(golden_root, **settings)
    assert "\n" not in str(caught.value)


def test_run_refuses_results_of_more_classes_than_the_labels_have(golden_root):
    labels.write_labels(golden_root / "model" / "labels.txt", ("aeroplane", "bicycle"))
    with pytest.raises(ValueError, match=r"results_5\.txt is of class id 5, but the labels have ids 1 to 2"):
        run_golden(golden_root)


def test_run_names_a_missing_annotation(golden_root):
    (golden_root / "root" / "VOC2007TEST" / "Annotations" / "000007.xml").unlink()
    with pytest.raises(ValueError, match=r"000007\.xml: the annotation cannot be read"):
        run_golden(golden_root)


def seconds_to_run(root):
    """Processor seconds, which other programs on the machine do not change."""
    start = time.process_time()
    figures = voc_eval.run(dataset_directory=root, pred_dir=root / "predict")
    assert 0 < figures["mAP"] < 1
    return time.process_time() - start


def test_the_whole_test_set_would_take_seconds(tmp_path):
    """A tenth of 4952 images and 500,000 detections, and the picture; the whole, under 8 s, is run by hand."""
    write_random_voc(tmp_path, images=495, detections=50_000)
    assert seconds_to_run(tmp_path) < 3


ROOT = Path(voc_eval.__file__).resolve().parent


def run_script(*arguments):
    command = [sys.executable, str(ROOT / "voc_eval.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_script_as_a_user_runs_it(golden_root):
    pred_dir = golden_root / "model" / "predict"
    done = run_script(f"--dataset_directory={golden_root / 'root'}", f"--pred_dir={pred_dir}", "--nouse_07_metric")
    assert done.returncode == 0, done.stderr
    assert "AP for bird = 0.2945\n" in done.stdout
    assert done.stdout.endswith("Mean AP = 0.3653\n")
    assert json.loads((pred_dir / "eval_output" / "voc_eval.json").read_text())["metric"] == "area"


def test_the_script_ends_with_one_line_and_status_1(golden_root):
    done = run_script(f"--dataset_directory={golden_root / 'root'}", "--split=VOC2012", f"--pred_dir={golden_root}")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: {golden_root / 'root' / 'VOC2012'} does not exist: check --dataset_directory and --split"
    ]


def test_the_script_does_not_wait_for_tensorflow():
    code = "import sys, voc_eval; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
