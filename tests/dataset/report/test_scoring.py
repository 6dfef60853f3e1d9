"""A folder of results files is scored, as a function and as a user runs it."""

import itertools
import json
import shutil
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from dataset.metric_benchmark import write_random_voc
from dataset.report import scoring
from dataset.report.scoring import ImageSet, score_results
from dataset.scores import voc_results
from dataset.sources import labels, voc
from tests.builders.detections import detect_everything
from utility.run.command import ROOT


@pytest.fixture(params=["drawn_voc-VOC2007", "drawn_voc-VOC2007TEST", "voc_sample-VOC2007"])
def genuine(request, tmp_path):
    """A split and its own ground truth as predictions: the images and the folder."""
    data, split = request.param.split("-")
    split_dir = request.getfixturevalue(data) / split
    image_set = "test" if split.endswith("TEST") else "trainval"
    ids = voc.read_image_set(split_dir, image_set)
    annotations = [voc.read_annotation(voc.annotation_path(split_dir, image_id)) for image_id in ids]
    names = tuple(sorted({each.name for annotation in annotations for each in annotation.objects}))
    labels.write_labels(tmp_path / "labels.txt", names)
    pred_dir = tmp_path / "predict"
    voc_results.write_results(pred_dir, detect_everything(annotations, names), len(names) + 1)
    return ImageSet(split_dir.parent, split, image_set), pred_dir


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
    arguments = {"dataset_directory": golden_root / "root", "pred_dir": golden_root / "model" / "predict", **settings}
    images = ImageSet(**{name: arguments.pop(name) for name in ImageSet._fields if name in arguments})
    return score_results(images, **arguments)


def test_ground_truth_scores_exactly_1(genuine, capsys):
    for iou_threshold, use_07_metric in itertools.product((0.5, 0.75, 0.95), (True, False)):
        figures = score_results(*genuine, iou_threshold=iou_threshold, use_07_metric=use_07_metric)
        assert figures["mAP"] == 1.0
        assert {score["ap"] for score in figures["classes"].values()} <= {1.0, None}
        assert "Mean AP = 1.0000\n" in capsys.readouterr().out


def test_a_split_without_image_sets_is_scored_whole(drawn_voc, tmp_path):
    """Pictures with their XML beside them, by the ids that the converter gives them."""
    for name in ("one/a", "two/a", "two/b"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        for part, suffix in (("Annotations", ".xml"), ("JPEGImages", ".jpg")):
            source = sorted((drawn_voc / "VOC2007" / part).glob(f"*{suffix}"))[0]
            shutil.copyfile(source, tmp_path / "set" / f"{name}{suffix}")
    images = ImageSet(tmp_path, "set")
    found = images.annotations()
    assert [annotation.image_id for annotation in found] == ["one_a", "two_a", "b"]
    names = tuple(sorted({each.name for annotation in found for each in annotation.objects}))
    voc_results.write_results(tmp_path / "predict", detect_everything(found, names), len(names) + 1)
    labels.write_labels(tmp_path / "labels.txt", names)
    assert score_results(images, tmp_path / "predict")["mAP"] == 1.0


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
    aeroplane = figures["classes"]["aeroplane"]
    assert (aeroplane["ground_truth"], aeroplane["difficult"], aeroplane["detections"]) == (27, 9, 46)
    assert sum(aeroplane["precision_at_recall"]) / 11 == pytest.approx(aeroplane["ap"])
    assert figures["classes"]["bus"]["precision_at_recall"] is None
    assert not list(path.parent.glob(".*.tmp"))


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
        ({"dataset_directory": ""}, "VOC2007TEST does not exist: check --dataset_directory and --split"),
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


def test_a_name_that_looks_like_a_formula_gets_its_scores_and_its_picture(cases, tmp_path, capsys):
    case = cases / "dollar_class"
    figures = score_results(ImageSet(case), case / "pred", output_directory=tmp_path)
    assert figures["mAP"] == 1.0
    assert "AP for $\\x$ = 1.0000" in capsys.readouterr().out
    assert (tmp_path / "precision_recall.png").is_file()


def test_a_nul_in_an_image_id_of_the_list_is_one_line(cases, tmp_path):
    with pytest.raises(ValueError, match=r"test\.txt: the id 'a\\x00b'") as caught:
        score_results(ImageSet(cases / "nul_id"), cases / "nul_id" / "pred", output_directory=tmp_path)
    assert str(caught.value).isprintable()


def draw_flat(precisions, path):
    """Draw classes of the same precision at each recall; a class without ground truth is left out."""
    rows = {
        name: {"ap": precision, "ground_truth": 1, "precision_at_recall": [precision] * 11}
        for name, precision in precisions.items()
    }
    scoring._draw_precision_recall({"none": {"ground_truth": 0}, **rows}, path)


@pytest.mark.parametrize(("classes", "rows"), [(1, 1), (5, 1), (7, 2)])
def test_precision_over_recall_is_drawn_for_each_class(tmp_path, classes, rows):
    """A class with precision 1 throughout fills its plot, one with 0 leaves it white."""
    shaded = []
    for precision in (0.0, 1.0):
        path = tmp_path / f"{precision}.png"
        draw_flat({f"class{n}": precision for n in range(classes)}, path)
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        shaded.append((pixels.max(-1) - pixels.min(-1) > 20).mean())  # the colour of the area
        assert abs(pixels.shape[0] - 120 * (2.0 * rows + 1)) < 2
    assert shaded[0] < 0.03 and shaded[1] > 0.3


NAMES = (r"$\x$", "$", r"\frac", "a\nb", "nul\0", "x" * 100_000, "\u72ac", "\x1b[2J", "\udcff")


def test_any_name_is_drawn_on_one_line_and_none_is_a_formula(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_flat(dict.fromkeys(NAMES, 0.5), tmp_path / "a.png")
    assert abs(Image.open(tmp_path / "a.png").size[1] - 120 * (2 * 2 + 1)) < 2  # two rows


def test_more_classes_than_a_picture_has_room_for(tmp_path):
    start = time.process_time()
    draw_flat({f"c{n}": 0.5 for n in range(2000)}, tmp_path / "a.png")
    assert time.process_time() - start < 10
    assert Image.open(tmp_path / "a.png").size[1] <= 120 * (2 * 20 + 1)


def seconds_to_run(root):
    """Processor seconds, which other programs on the machine do not change."""
    start = time.process_time()
    figures = score_results(ImageSet(root), root / "predict")
    assert 0 < figures["mAP"] < 1
    return time.process_time() - start


def test_the_whole_test_set_would_take_seconds(tmp_path):
    """A tenth of 4952 images and 500,000 detections, and the picture; the whole, under 8 s, is run by hand."""
    write_random_voc(tmp_path, images=495, detections=50_000)
    assert seconds_to_run(tmp_path) < 3


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
