"""Exported models against evaluation, in this process and in one that does not import the project."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.input import eval_input_fn
from dataset.records import record_files
from dataset.records.schema import RecordObject, serialize
from dataset.scores import voc_results
from net import export
from net.default_boxes import default_boxes
from net.detections import detect
from net.prediction import predict_pictures
from net.ssd_net import SsdOutput, ssd_network
from preprocessing.ssd_preprocessing import reduce
from tests.builders import tiny_ssd
from tests.builders.configs import VOC_LIKE, voc_config
from tests.builders.voc import picture
from utility.config import config_file
from utility.config.settings import DetectionConfig
from utility.files import tfrecord
from utility.run.command import ROOT

THRESHOLD = "--select_threshold=0.5"  # so that a network of random weights finds tens of objects, not thousands


def save_network(config, folder, class_heads=1.0):
    """Write a checkpoint of random weights, those of `cls` times a factor, and its config; return its prefix."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(5)
        ssd_network(tf.zeros([1, 300, 300, 3]), config, "channels_last")
        tf.train.get_or_create_global_step()  # evaluation restores it
        session.run(tf.global_variables_initializer())
        heads = [variable for variable in tf.trainable_variables() if "multibox_head/cls" in variable.name]
        session.run([variable.assign(class_heads * variable) for variable in heads])
        prefix = tf.train.Saver().save(session, str(folder / "model.ckpt"), write_meta_graph=False)
    config_file.save(config, str(folder))
    return prefix


def run(*arguments, status=0):
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def write_records(folder, encoded_pictures):
    """Write records with one object per image, and labels.txt; return the path of the shard."""
    serialized = []
    for name, encoded in encoded_pictures.items():
        width, height = Image.open(io.BytesIO(encoded)).size
        serialized.append(
            serialize(
                encoded,
                f"{name}.jpg",
                height,
                width,
                [RecordObject((0.1, 0.1, 0.5, 0.5), 1, VOC_LIKE[0], False, False)],
            )
        )
    shard = record_files.shard_paths(folder, "val", 1)[0]
    shard.write_bytes(b"".join(map(tfrecord.frame, serialized)))
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in VOC_LIKE))
    return str(shard)


# --- as a user runs it: SSD300-VGG16, loaded in a process that imports TensorFlow only --------------------------------

SERVE = """
import sys
import numpy as np
import tensorflow as tf

model, output, *paths = sys.argv[1:]
detect = tf.saved_model.load(model).signatures["serving_default"]
found = {path: detect(encoded=[tf.io.read_file(path)]) for path in paths}
arrays = {f"{path}|{name}": value[0].numpy() for path in paths for name, value in found[path].items()}
np.savez(output, **{name: np.array(value.tolist()) for name, value in arrays.items()})
print(sorted({"utility", "preprocessing", "dataset", "net"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Detections of a VGG with random weights in the images of demo/."""
    home = tmp_path_factory.mktemp("served")
    checkpoint = save_network(voc_config(), home)
    done = run("utility/export_model.py", f"--checkpoint_path={home}", f"--output={home}/new/model", THRESHOLD)
    assert done.stdout == f"wrote {checkpoint} with its 20 classes to {home}/new/model, 106 MB\n"
    assert done.stderr == ""
    assert [path.name for path in (home / "new").iterdir()] == ["model"]
    demo = sorted((ROOT / "demo").glob("*.jpg"))
    (home / "elsewhere").mkdir()
    command = [sys.executable, "-I", "-c", SERVE, home / "new/model", home / "found.npz", *demo]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    served = subprocess.run(
        command, cwd=home / "elsewhere", env=environment, capture_output=True, text=True, check=False
    )
    assert served.returncode == 0, served.stderr
    found: dict[str, dict] = {}
    for key, value in np.load(home / "found.npz").items():
        path, name = key.split("|")
        found.setdefault(Path(path).stem, {})[name] = value
    return SimpleNamespace(home=home, found=found, demo=demo, printed=served.stdout)


def test_demo_pictures_are_served_by_tensorflow_alone(served):
    assert served.printed.strip() == "[]"  # modules of this project
    for path in served.demo:
        found = served.found[path.stem]
        count, (width, height) = found["count"], Image.open(path).size
        assert 10 < count == len(found["scores"]) and (found["scores"] > 0.5).all()
        assert [VOC_LIKE[number - 1].encode() for number in found["classes"]] == found["class_names"].tolist()
        low, high = found["boxes_yxyx_px"][:, :2], found["boxes_yxyx_px"][:, 2:]
        assert (
            (low >= 0).all() and (high <= [height, width]).all() and (high - low > [0.02 * height, 0.02 * width]).all()
        )
        assert high.max() > 150


def assert_same_detections(found, wanted, score, pixels):
    """Compare detections; the order of nearly equal scores may differ."""
    assert len(found["scores"]) == len(wanted["scores"])
    unmatched = set(range(len(wanted["scores"])))
    for box, value, number in zip(found["boxes_yxyx_px"], found["scores"], found["classes"], strict=True):
        match = [
            other
            for other in unmatched
            if wanted["classes"][other] == number
            and abs(wanted["scores"][other] - value) <= score
            and np.abs(wanted["boxes_yxyx_px"][other] - box).max() <= pixels
        ]
        assert match, (box, value, number)
        unmatched.remove(match[0])


def test_detections_are_those_of_eval_ssd(served, tmp_path):
    write_records(tmp_path, {path.stem: path.read_bytes() for path in served.demo})
    checkpoint = f"--checkpoint_path={served.home}"
    run("eval_ssd.py", f"--data_dir={tmp_path}", f"--model_dir={tmp_path}", checkpoint, THRESHOLD)
    results = [voc_results.read_results(tmp_path / "predict" / f"results_{number}.txt") for number in range(1, 21)]
    for path in served.demo:
        mine = [result.image_ids == path.stem for result in results]
        wanted = {
            "scores": np.concatenate([r.scores[m] for r, m in zip(results, mine, strict=True)]),
            "boxes_yxyx_px": np.concatenate([r.boxes_yxyx_px[m] for r, m in zip(results, mine, strict=True)]),
            "classes": np.concatenate([np.full(m.sum(), number) for number, m in enumerate(mine, start=1)]),
        }
        assert len(wanted["scores"]) > 10
        # 1e-4 of the score and of the picture's side
        assert_same_detections(served.found[path.stem], wanted, score=1e-4, pixels=0.03)


# --- images of all kinds, in this process ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small network with its checkpoint and its SavedModel's signatures."""
    folder = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        config = tiny_ssd.tiny_config(patch.setitem).replace(
            {"detection.select_threshold": 0.5, "targets.coordinates": "absolute", "views.max_side": 110}
        )
        # small weights, because scores that are all close to 1 would be in another order in each program
        checkpoint = save_network(config, folder, class_heads=0.3)
        export.write_saved_model(str(folder / "saved"), checkpoint, config, "ssd300")
        signatures = tf.compat.v2.saved_model.load(str(folder / "saved")).signatures
        yield SimpleNamespace(folder=folder, checkpoint=checkpoint, config=config, signatures=signatures)


def encode(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


PICTURES = {
    "colour": encode(picture((120, 90), seed=1), "JPEG"),
    "grey": encode(picture((90, 200), seed=2).convert("L"), "JPEG"),
    "print": encode(picture((64, 64), seed=3).convert("CMYK"), "JPEG"),
    "lossless": encode(picture((300, 40), seed=4), "PNG"),
    "grey lossless": encode(picture((31, 77), seed=5).convert("L"), "PNG"),
}


def test_a_batch_of_all_kinds_has_the_detections_of_evaluation(tiny, tmp_path):
    shard = write_records(tmp_path, PICTURES)
    ssd = tiny_ssd.make_estimator(tiny.config, tmp_path)
    wanted = list(predict_pictures(ssd, eval_input_fn([shard], tiny.config, 5), tiny.checkpoint))
    found = {n: v.numpy() for n, v in tiny.signatures["serving_default"](encoded=[*PICTURES.values()]).items()}
    assert found["count"].tolist() == [len(image["scores"]) for image in wanted]
    assert found["count"].min() < found["scores"].shape[1] == found["count"].max()
    for row, image in enumerate(wanted):
        count = found["count"][row]
        assert count > 5
        pixels = image["boxes_yxyx"] * np.tile(image["size"], 2)
        np.testing.assert_allclose(found["boxes_yxyx_px"][row, :count], pixels, atol=1e-4)
        np.testing.assert_allclose(found["scores"][row, :count], image["scores"], atol=1e-4)
        np.testing.assert_array_equal(found["classes"][row, :count], image["classes"])
        names = [VOC_LIKE[number - 1].encode() for number in image["classes"]]
        assert found["class_names"][row].tolist() == names + [b""] * (found["scores"].shape[1] - count)
        assert not found["boxes_yxyx_px"][row, count:].any() and not found["classes"][row, count:].any()


def test_raw_images_have_the_detections_of_encoded_ones(tiny):
    for name in ("lossless", "grey lossless"):
        pixels = np.array(Image.open(io.BytesIO(PICTURES[name])).convert("RGB"))
        encoded = tiny.signatures["serving_default"](encoded=[PICTURES[name]])
        raw = tiny.signatures["images"](images=np.stack([pixels, pixels]))
        assert raw["count"].numpy().tolist() == encoded["count"].numpy().tolist() * 2
        for row in range(2):
            np.testing.assert_allclose(raw["boxes_yxyx_px"][row], encoded["boxes_yxyx_px"][0], atol=1e-3)


# runs the script after registering the small backbone
SCRIPT = """
import sys
from tests.builders import tiny_ssd
tiny_ssd.tiny_config()
import runpy
sys.argv[0] = "utility/export_model.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("form", ["tflite", "onnx"])
def test_other_formats_have_the_same_detections_with_their_own_operators(tiny, tmp_path, form):
    output = tmp_path / form
    done = run("-c", SCRIPT, f"--checkpoint_path={tiny.checkpoint}", f"--output={output}", f"--format={form}")
    assert done.stdout.startswith("wrote ") and done.stdout.count("\n") == 1 and done.stderr == ""
    assert sorted(path.name for path in output.iterdir()) == ["labels.txt", f"model.{form}"]
    assert (output / "labels.txt").read_text().split() == list(VOC_LIKE)
    run_model = LOADED[form](output / f"model.{form}")
    for name in ("lossless", "colour"):
        image = np.array(Image.open(io.BytesIO(PICTURES[name])))[np.newaxis]
        found = {name: value[0] for name, value in run_model(image).items()}
        wanted = {name: value[0].numpy() for name, value in tiny.signatures["images"](images=image).items()}
        count = found.pop("count")
        assert count > 10 and not any(values[count:].any() for values in found.values())
        assert_same_detections({name: values[:count] for name, values in found.items()}, wanted, score=1e-3, pixels=1)


def loaded_tflite(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    names = {operator["op_name"] for operator in interpreter._get_ops_details()}
    assert "NON_MAX_SUPPRESSION_V4" in names and not any("Flex" in name or "CUSTOM" in name for name in names)
    detect = interpreter.get_signature_runner("serving_default")
    return lambda image: detect(image=image)


def loaded_onnx(path):
    import onnx
    import onnxruntime

    model = onnx.load(path)
    assert "NonMaxSuppression" in {node.op_type for node in model.graph.node}
    assert {opset.domain: opset.version for opset in model.opset_import}[""] == 17
    assert {node.domain for node in model.graph.node} == {""}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(None, {"image": image}), strict=True))


LOADED = {"tflite": loaded_tflite, "onnx": loaded_onnx}


def test_onnx_without_tf2onnx_is_a_one_line_error(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ValueError, match=r"--format=onnx: .*tf2onnx.*pip install -r requirements-export.txt"):
        export.onnx_model(tiny.checkpoint, tiny.config, "ssd300")


def test_an_operator_without_counterpart_in_onnx_is_a_one_line_error(tiny, monkeypatch):
    def unknown(boxes, scores, settings):
        return boxes, tf.raw_ops.Betainc(a=scores, b=scores, x=scores)

    monkeypatch.setattr(export, "nms_of_class", unknown)
    with pytest.raises(ValueError, match=r"--format=onnx: the model cannot be written: .*Betainc"):
        export.onnx_model(tiny.checkpoint, tiny.config, "ssd300")


# --- what TensorFlow Lite and ONNX need in place of TensorFlow's operators -------------------------------------


@pytest.mark.parametrize("coordinates", ["normalized", "absolute"])
def test_detections_by_an_operator_per_class_are_the_same(coordinates):
    anchors = default_boxes(voc_config(targets__coordinates=coordinates))
    settings = DetectionConfig(max_detections=7, keep_topk=60, nms_topk=9, select_threshold=0.2)
    random = np.random.RandomState(4)
    offsets, logits = random.randn(1, 8732, 4).astype(np.float32), 3 * random.randn(1, 8732, 4).astype(np.float32)
    output = SsdOutput(tf.constant(offsets), tf.constant(logits))
    wanted, found = detect(output, anchors, settings), export.detect_in_one(output, anchors, settings)
    assert wanted.count.numpy().tolist() == [7]
    for name, values in found._asdict().items():
        np.testing.assert_allclose(values, getattr(wanted, name), atol=1e-6)


@pytest.mark.parametrize("size", [(1000, 747), (333, 1201), (129, 128), (2, 700), (128, 100)])
def test_reduction_by_products_is_that_of_evaluation(size):
    image = tf.constant(np.asarray(picture(size), np.float32))
    np.testing.assert_allclose(export.reduce_by_products(image, 128), reduce(image, 128), atol=1e-2)


# --- pictures that are none ------------------------------------------------------------------------------------

EMPTY_SIZES = ((0, 40), (40, 0), (0, 0))

# in a process of its own, which may crash: a fresh interpreter for each, as a first call is another one than a second
CALL_TFLITE = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter

for shape in [(1, 0, 40, 3), (1, 40, 0, 3), (1, 0, 0, 3), (2, 40, 40, 3), (0, 40, 40, 3)]:
    detect = Interpreter(sys.argv[1]).get_signature_runner()
    try:
        found = detect(image=np.zeros(shape, np.uint8))
        print(shape, int(found["count"][0]), any(values.any() for values in found.values()))
    except RuntimeError as error:
        print(shape, "RuntimeError", "SQUEEZE" in str(error))
    picture = np.random.default_rng(1).integers(0, 256, (1, 40, 40, 3), np.uint8)
    assert detect(image=picture)["count"][0] > 0, "in the next picture something is found again"
"""


def test_tflite_finds_nothing_in_no_pixels_and_refuses_another_number_of_pictures(tiny, tmp_path):
    (tmp_path / "model.tflite").write_bytes(export.tflite_model(tiny.checkpoint, tiny.config, "ssd300"))
    done = run("-c", CALL_TFLITE, tmp_path / "model.tflite")
    assert done.stdout.splitlines() == [
        "(1, 0, 40, 3) 0 False",
        "(1, 40, 0, 3) 0 False",
        "(1, 0, 0, 3) 0 False",
        "(2, 40, 40, 3) RuntimeError True",
        "(0, 40, 40, 3) RuntimeError True",
    ]


def test_onnx_finds_nothing_in_no_pixels_and_refuses_another_number_of_pictures(tiny, tmp_path):
    (tmp_path / "model.onnx").write_bytes(export.onnx_model(tiny.checkpoint, tiny.config, "ssd300"))
    detect = loaded_onnx(tmp_path / "model.onnx")
    for height, width in EMPTY_SIZES:
        found = detect(np.zeros((1, height, width, 3), np.uint8))
        assert found["count"].tolist() == [0] and not any(values.any() for values in found.values())
    for pictures in (0, 2):
        with pytest.raises(Exception, match="Got invalid dimensions for input: image"):
            detect(np.zeros((pictures, 40, 40, 3), np.uint8))


def test_the_saved_model_finds_nothing_in_no_pixels_and_in_no_pictures(tiny):
    for height, width in EMPTY_SIZES:
        found = tiny.signatures["images"](images=np.zeros((2, height, width, 3), np.uint8))
        assert found["count"].numpy().tolist() == [0, 0]
        assert found["boxes_yxyx_px"].shape == (2, 0, 4)
    for found in (
        tiny.signatures["images"](images=np.zeros((0, 40, 40, 3), np.uint8)),
        tiny.signatures["serving_default"](encoded=tf.constant([], tf.string)),
    ):
        assert found["count"].shape == (0,) and found["boxes_yxyx_px"].shape == (0, 0, 4)


@pytest.mark.parametrize("broken", [b"", b"hello", PICTURES["colour"][:200], PICTURES["lossless"][:100]])
def test_one_broken_picture_is_an_error_for_its_batch(tiny, broken):
    with pytest.raises(tf.errors.InvalidArgumentError):
        tiny.signatures["serving_default"](encoded=[PICTURES["colour"], broken])
    assert tiny.signatures["serving_default"](encoded=[PICTURES["colour"]])["count"].numpy() > 0


# --- errors ----------------------------------------------------------------------------------------


def test_an_existing_output_is_not_modified(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/precious").write_text("x")
    for output in (tmp_path / "model", tmp_path / "model/precious"):
        done = run("utility/export_model.py", f"--output={output}", status=1)
        assert done.stderr == f"error: --output={output} is there already: name a new or empty folder\n"
    assert (tmp_path / "model/precious").read_text() == "x"


def test_a_checkpoint_of_another_network_is_rejected(tiny, tmp_path):
    other = tiny.config.replace({"class_names": VOC_LIKE[:3]})
    wrong = r"cls_0/kernel has shape 3x3x32x16, in the checkpoint 3x3x32x84 \(6 of"
    with pytest.raises(ValueError, match=f"is of another network: .*{wrong}"):
        export.write_saved_model(str(tmp_path / "out"), tiny.checkpoint, other, "ssd300")
    assert not (tmp_path / "out").exists()


def test_an_error_leaves_no_folder_and_an_empty_folder_is_replaced(tmp_path):
    output = tmp_path / "new" / "model"
    with pytest.raises(OSError, match="full"), export.whole_folder(output) as folder:
        folder.mkdir()
        (folder / "half").touch()
        raise OSError("disk full")
    assert list(output.parent.iterdir()) == []
    output.mkdir()
    with export.whole_folder(output) as folder:
        folder.mkdir()
        (folder / "all").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "new",
        "new/model",
        "new/model/all",
    ]
