"""The flags of train_ssd.py and of all command lines: values that they must not have, and the config they ask for."""

import subprocess
import sys
import time

import pytest
from absl import flags
from absl.testing import flagsaver

import train_ssd
from tests.builders.configs import VOC_LIKE, voc_config
from utility.errors import UserError
from utility.flags import NETWORK, TRAINING, as_typed, asked_config
from utility.run.command import ROOT

NO_NUMBERS = ["\u00b2", "nan", "inf", "-inf", "1.2.3", "", "1e999", "9" * 5000, "1 0", "--"]
HUGE = {"float": ["1e308", "1e39", "-1e39"], "int": ["-3000000000", "10000000000000", "1" * 30]}
REFUSED_BY_NUMBER = {"decay_boundaries": "int", "lr_decay_factors": "float", "anchor_scales": "float"}  # of values
IN_COMMAS = {**REFUSED_BY_NUMBER, "train_image_size": "int"}


@pytest.fixture
def parse():
    """Return a function that parses flags of train_ssd.py; they are forgotten afterwards."""
    if "preset" not in flags.FLAGS:
        train_ssd.define_flags()
    with flagsaver.flagsaver():
        yield lambda *given: flags.FLAGS(["train_ssd.py", *given])


def kinds():
    """Return the type of each flag with numbers, by name."""
    modules = flags.FLAGS.flags_by_module_dict()
    own = [flag for module in ("utility.flags", "train_ssd") for flag in modules[module]]
    return {flag.name: flag.flag_type() for flag in own if flag.flag_type() in ("int", "float")} | IN_COMMAS


def test_no_flag_takes_for_a_number_what_is_none_or_cannot_be_used(parse):
    parse()
    assert len(kinds()) > 25
    for name, kind in kinds().items():
        empty = [""] if name in REFUSED_BY_NUMBER else []  # none at all
        for text in [*NO_NUMBERS, *([] if name == "tf_random_seed" else HUGE[kind])]:
            if text in empty:
                continue
            with flagsaver.flagsaver(), pytest.raises((flags.Error, ValueError), match=f"--{name}="):
                parse(f"--{name}={text}")


@pytest.mark.parametrize(
    "given",
    [
        "--num_preprocessing_threads=100000000",
        "--num_readers=5000",
        "--num_cpu_threads=-1",
        "--gpu_memory_fraction=0",
        "--train_epochs=0",
        "--model_scope=a b",
        "--model_scope=_a",
        "--model_scope=a//b",
        "--model_scope=a/",
        "--model_scope=",
        "--model_scope=\u0663",
        "--checkpoint_model_scope=vgg_16/",
        "--checkpoint_model_scope=vgg:16",
        "--checkpoint_exclude_scopes=a,,b",
    ],
)
def test_a_wrong_flag_is_named(parse, given):
    with pytest.raises(flags.Error, match=given.partition("=")[0]):
        parse(given)


@pytest.mark.parametrize("text", ["0xBEEF", "0x7fffffffffffffff", str(2**63 - 1), str(-(2**63)), "-3000000000"])
def test_a_seed_is_any_number_of_64_bits_also_hexadecimal(parse, text):
    parse(f"--tf_random_seed={text}")
    assert flags.FLAGS.tf_random_seed == int(text, 0)


@pytest.mark.parametrize("text", ["0x", "0x8000000000000000", str(2**63), str(-(2**63) - 1), "0xg"])
def test_what_is_no_seed(parse, text):
    with pytest.raises(flags.Error, match="--tf_random_seed="):
        parse(f"--tf_random_seed={text}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--negative_ratio=10000", r"--negative_ratio=10000\.0: must be a number <= 1000"),
        ("--momentum=1", r"--momentum=1\.0: must be a number < 1"),
        ("--learning_rate=0", r"--learning_rate=0\.0: must be a number > 0"),
        ("--batch_size=0", r"--batch_size=0: must be a whole number >= 1"),
        ("--decay_boundaries=5,-1", r"--decay_boundaries=5,-1: .*must be a whole number >= 0"),
        ("--lr_decay_factors=.1,x", r"--lr_decay_factors=\.1,x: must be numbers, separated by commas"),
        ("--train_image_size=300x0", r"--train_image_size=300x0: must be a number of pixels, or HEIGHTxWIDTH"),
        ("--train_image_size=1x2x3", r"--train_image_size=1x2x3: must be a number of pixels, or HEIGHTxWIDTH"),
    ],
)
def test_a_setting_out_of_range_is_one_message_with_flag_value_and_range(parse, given, message):
    with pytest.raises(UserError, match=f"^{message}"):
        parse(given)


def test_a_last_slash_is_named(parse):
    for name in ("model_scope", "checkpoint_model_scope"):
        with pytest.raises(flags.Error, match=f"--{name}=vgg_16/: .* without a slash at its end"):
            parse(f"--{name}=vgg_16/")


def test_a_backbone_is_one_of_those_there_are(parse):
    with pytest.raises(flags.Error, match=r"--backbone=x: .*vgg16\|resnet50\|mobilenet_v1"):
        parse("--backbone=x")


def test_the_number_of_a_setting_is_exactly_what_is_written(parse):
    parse("--learning_rate=.2", "--batch_size=+4", "--momentum=0.", "--anchor_scales=.1, .2,.3,.4,.5,.6,1e0")
    config = asked_config(VOC_LIKE, NETWORK, TRAINING)
    assert (config.schedule.learning_rate, config.schedule.batch_size, config.schedule.momentum) == (0.2, 4, 0.0)
    assert config.anchors.scales == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0)


def test_what_is_right_is_taken(parse):
    parse("--checkpoint_model_scope=_vgg")
    parse("--model_scope=detector/ssd300", "--checkpoint_model_scope=", "--checkpoint_exclude_scopes=")
    parse("--checkpoint_exclude_scopes=ssd300/multibox_head,conv4_3_scale", "--train_image_size=304x400")
    parse("--batch_size=4", "--learning_rate=1e-2", "--lr_decay_factors=.1, 1,1,1", "--decay_boundaries=1,2,3")
    config = asked_config(VOC_LIKE, NETWORK, TRAINING)
    assert config.network.image_size == (304, 400) and config.schedule.batch_size == 4
    assert (config.schedule.learning_rate, config.schedule.lr_decay_factors) == (0.01, (0.1, 1.0, 1.0, 1.0))


def test_scales_of_default_boxes_are_as_many_as_maps_and_one_more(parse):
    parse("--anchor_scales=.05,.1,.2,.4,.6,.8,1", "--min_size=0.01", "--match_threshold=.6")
    config = asked_config(VOC_LIKE, NETWORK, TRAINING)
    assert config.anchors.scales == (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert (config.detection.min_size, config.targets.match_threshold) == (0.01, 0.6)
    given = ["--anchor_scales=.05,.1,.2,.4,.6,.8,1", "--match_threshold=0.6", "--min_size=0.01"]
    assert as_typed("preset", *NETWORK) == given
    parse("--preset=ssd512_voc")
    with pytest.raises(ValueError, match=r"anchors\.scales=.* 8 numbers \(--anchor_scales\), one for each of the 7"):
        asked_config(VOC_LIKE, NETWORK, TRAINING)


@pytest.mark.parametrize("scales", ["0,.1,.2,.4,.6,.8,1", ".05,.1,.2,.4,.6,.8,101"])
def test_scales_out_of_range_are_refused(parse, scales):
    with pytest.raises(ValueError, match=f"--anchor_scales={scales}.*must be a number (>|<=) (0|100)"):
        parse(f"--anchor_scales={scales}")


@pytest.mark.parametrize(
    ("script", "given", "status"),
    [
        ("train_ssd.py", "--learning_rate=1e308", 1),
        ("train_ssd.py", "--data_format=x", 2),
        ("train_ssd.py", "--checkpoint_exclude_scopes=a,,b", 2),
        ("eval_ssd.py", "--batch_size=2.5", 2),
        ("eval_ssd.py", "--nms_threshold=nan", 1),
        ("simple_ssd_demo.py", "--nms_topk=1000000000", 1),
        ("voc_eval.py", "--iou_threshold=0", 2),
        ("dataset/convert_tfrecords.py", "--num_threads=100000000", 2),
        ("dataset/make_sample_voc.py", "--seed=-1", 2),
        ("dataset/dataset_inspect.py", "--anchor_scales=.1,x", 1),
        ("train_ssd.py", "--min_size=1", 1),
        ("utility/benchmark.py", "--turns=0", 2),
        ("utility/benchmark.py", "--preset=x", 1),
        ("utility/benchmark.py", "--measure=train --backbone=resnet50 --batch_size=1", 1),
        ("utility/benchmark.py", "--data_dir=/no/where", 1),
    ],
)
def test_a_command_line_refuses_a_wrong_flag_in_one_line_at_once(script, given, status):
    start = time.monotonic()
    command = [sys.executable, script, *given.split(" ")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    lines = done.stderr.splitlines()
    last = given.split(" ")[-1].partition("=")[0].removeprefix("--")
    assert lines[0].startswith("error: ") and (last in lines[0] or "/no/where" in lines[0]) and len(lines[0]) < 450
    assert len(lines) == status and done.stdout == ""
    assert time.monotonic() - start < 10  # about 1 s on an idle machine; TensorFlow alone takes longer


def suited(parse, *given, images=100, pretrained=False, before=None):
    with flagsaver.flagsaver():
        parse(*given)
        return train_ssd.scheduled(asked_config(VOC_LIKE, NETWORK, TRAINING), images, pretrained, before)


def scheduled(parse, *given, **options):
    return suited(parse, *given, **options).schedule


MOBILENET = ("--train_epochs=60", "--backbone=mobilenet_v1")


@pytest.mark.parametrize(
    ("given", "pretrained", "before", "weight"),
    [
        (MOBILENET, True, None, 0.5),
        (MOBILENET, False, None, 1.0),
        (("--train_epochs=60",), True, None, 1.0),
        ((*MOBILENET, "--localization_weight=2"), True, None, 2.0),
        ((*MOBILENET, "--localization_weight=2"), False, None, 2.0),
        (MOBILENET, True, voc_config(), 1.0),
        ((*MOBILENET, "--localization_weight=2"), True, voc_config(), 2.0),
    ],
)
def test_the_weight_of_localization_is_the_given_one_that_of_before_or_the_backbones(
    parse, given, pretrained, before, weight
):
    assert suited(parse, *given, pretrained=pretrained, before=before).loss.localization_weight == weight


def test_epochs_alone_give_steps_rate_and_decays(parse):
    found = scheduled(parse, "--train_epochs=60", "--backbone=mobilenet_v1", "--batch_size=16")
    assert (found.max_number_of_steps, found.decay_boundaries) == (375, (18, 250, 312))
    assert (found.learning_rate, found.clip_gradient_norm) == (0.02, 5.0)
    found = scheduled(parse, "--train_epochs=60", "--backbone=mobilenet_v1", "--batch_size=16", pretrained=True)
    assert (found.learning_rate, found.clip_gradient_norm) == (0.005, 20.0)
    for pretrained in (False, True):
        found = scheduled(parse, "--train_epochs=60", "--backbone=resnet50", "--batch_size=16", pretrained=pretrained)
        assert (found.learning_rate, found.clip_gradient_norm) == (0.01, 20.0)
    assert scheduled(parse, "--train_epochs=60", pretrained=True).learning_rate == 0.001
    assert scheduled(parse, "--train_epochs=60").learning_rate == 0.00025


def test_what_is_given_stays(parse):
    given = ("--train_epochs=60", "--decay_boundaries=50,80", "--lr_decay_factors=1,.5,.1", "--learning_rate=0.3")
    found = scheduled(parse, *given, "--max_number_of_steps=120")
    assert (found.max_number_of_steps, found.decay_boundaries, found.learning_rate) == (120, (50, 80), 0.3)
    assert found.clip_gradient_norm == 0.0  # VGG16's
    assert scheduled(parse) == voc_config().schedule


def test_a_training_that_goes_on_keeps_its_rate_and_clipping(parse):
    before = voc_config().replace({"schedule.learning_rate": 0.007, "schedule.clip_gradient_norm": 19.0})
    found = scheduled(parse, *MOBILENET, pretrained=True, before=before)
    assert (found.learning_rate, found.clip_gradient_norm) == (0.007, 19.0)
