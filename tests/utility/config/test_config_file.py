"""The config of a model directory: JSON both ways, and the comparison with the config of a training."""

import dataclasses
import json
import re

import pytest

from tests.builders.configs import voc_config
from utility.config import config_file
from utility.config.settings import ExtraLayer
from utility.errors import UserError


def loaded(folder, text):
    (folder / "config.json").write_text(text)
    return config_file.load(str(folder))


def test_saved_and_loaded(tmp_path):
    config = voc_config(detection__max_detections=200, targets__coordinates="absolute")
    config_file.save(config, str(tmp_path / "model"))
    found = config_file.load(str(tmp_path / "model"))
    assert found and found == config and isinstance(found.network.extra_layers[0], ExtraLayer)
    assert (tmp_path / "model/labels.txt").read_text().split() == list(config.class_names)
    assert config_file.load(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d["loss"].update(wrong=1), "loss.wrong"),
        (lambda d: d["schedule"].update(batch_size="many"), "schedule.batch_size"),
        (lambda d: d["schedule"].update(batch_size=True), "schedule.batch_size"),
        (lambda d: d["network"].update(backbone="alexnet"), "network.backbone"),
        (lambda d: d["anchors"].update(scales=[0.1, 0.2]), "anchors.scales"),
        (lambda d: d["schedule"].update(learning_rate=float("nan")), "not JSON"),
    ],
)
def test_an_invalid_file_is_rejected_with_its_name(tmp_path, change, named):
    values = dataclasses.asdict(voc_config())
    change(values)
    with pytest.raises(UserError, match=named) as error:
        loaded(tmp_path, json.dumps(values))
    assert str(error.value).startswith(f"{tmp_path}/config.json")


def wrong_types(value, name=""):
    """Give name and value of every entry of JSON, with a value of another type in its place."""
    for key, item in value.items():
        others = [None, True, "x", 1.5, [], {}, [1, 2, 3, 4, 5, 6, 7], {"x": 1}]
        for other in others:
            yield f"{name}{key}", {**value, key: other}
        if isinstance(item, dict):
            yield from ((inner, {**value, key: changed}) for inner, changed in wrong_types(item, f"{name}{key}."))


def value_at(document, name):
    """Return the value of a dotted name."""
    for key in name.split("."):
        document = document[key]
    return document


# a list may be right by itself, but of another length than one that must fit
NAMED_INSTEAD = {"network.extra_layers": "anchors.ratios", "schedule.decay_boundaries": "schedule.lr_decay_factors"}


def test_no_value_of_another_type_gets_through(tmp_path):
    """Each is either what the config may hold, or one line that names the setting."""
    values, refused = json.loads(json.dumps(dataclasses.asdict(voc_config()))), 0
    for name, changed in wrong_types(values):
        try:
            config = loaded(tmp_path, json.dumps(changed))
        except UserError as error:
            named = re.search(r"of this project: (?:unknown setting )?([a-z0-9_.]+)", str(error))[1]  # type: ignore[index]
            instead = NAMED_INSTEAD.get(name) if isinstance(value_at(changed, name), list) else None
            assert named in (name, instead) or named.startswith(f"{name}."), str(error)
            assert len(str(error)) < 500 and "\n" not in str(error)
            refused += 1
        else:
            assert loaded(tmp_path, json.dumps(dataclasses.asdict(config))) == config
    assert refused > 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": "abcd"}, r"class_names=abcd: must be a list"),
        ({"network": []}, r"network=\[\]: must be an object"),
        ({"network": {"image_size": [300]}}, r"network\.image_size=\[300\]: must be a list .* 2, got 1"),
        ({"targets": {"prior_variances": [0.1] * 5}}, r"prior_variances=.*: must be a list .* 4, got 5"),
        (
            {"network": {"extra_layers": [{"filters": 8}]}},
            r"extra_layers\[0\]=.*required field bottleneck",
        ),
        ({"network": {"image_size": [10**30, 300]}}, r"network\.image_size\[0\]=.*must be a whole number <= 16384"),
        ({"class_names": ["a", ["b"]]}, r"class_names\[1\]=\['b'\]: must be a text"),
        ({"schedule": {"momentum": "x" * 10**6}}, r"schedule\.momentum=xxx"),
    ],
)
def test_each_value_is_of_the_declared_type(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        loaded(tmp_path, json.dumps(change))
    assert len(str(error.value)) < 300


def test_files_that_went_wrong_are_one_line(cases, tmp_path):
    for path in sorted((cases / "config").iterdir()):
        (tmp_path / "config.json").write_bytes(path.read_bytes())
        with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path))}/config\.json.* (UTF-8|not a config)"):
            config_file.load(str(tmp_path))


@pytest.mark.parametrize("text", ["[]", "null", "3", "[" * 5000, "1" * 10**5, "{", '{"class_names": ["\\ud800"]}'])
def test_what_is_no_object_of_json_is_one_line(tmp_path, text):
    with pytest.raises(UserError, match=r"/config\.json.* .*restore the file") as error:
        loaded(tmp_path, text)
    assert len(str(error.value)) < 200 + len(str(tmp_path))


def test_a_setting_of_training_or_detection_that_changes_is_told(tmp_path):
    config_file.save(voc_config(), str(tmp_path))
    other = voc_config(detection__min_size=0.01, loss__weight_decay=0.0)
    assert config_file.check_same_model(other, str(tmp_path)) == [
        "loss.weight_decay 0.0 instead of 0.0005",
        "detection.min_size 0.01 instead of 0.03",
    ]


def test_a_model_directory_of_another_network_is_rejected_with_the_differences(tmp_path):
    config_file.save(voc_config(), str(tmp_path))
    config_file.check_same_model(voc_config(schedule__learning_rate=1.0, loss__weight_decay=0.0), str(tmp_path))
    other = voc_config(network__image_size=(512, 512)).replace({"class_names": ("cat", "dog")})
    with pytest.raises(ValueError, match=r"network\.image_size") as error:
        config_file.check_same_model(other, str(tmp_path))
    assert "class_names ('cat', 'dog')" in str(error.value) and str(tmp_path) in str(error.value)
