"""The config of a model directory: JSON both ways, and the comparison with the config of a training."""

import dataclasses
import json

import pytest

from tests.builders.configs import voc_config
from utility.config import config_file
from utility.config.settings import ExtraLayer


def test_json_round_trip():
    config = voc_config(detection__max_detections=200, targets__coordinates="absolute")
    assert config_file.from_json(config_file.to_json(config)) == config
    assert isinstance(config_file.from_json(config_file.to_json(config)).network.extra_layers[0], ExtraLayer)


def test_saved_and_loaded(tmp_path):
    config_file.save(voc_config(), str(tmp_path / "model"))
    assert config_file.load(str(tmp_path / "model")) == voc_config()
    assert (tmp_path / "model/labels.txt").read_text().split() == list(voc_config().class_names)
    assert config_file.load(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d["loss"].update(wrong=1), "loss.wrong"),
        (lambda d: d["schedule"].update(batch_size="many"), "schedule.batch_size"),
        (lambda d: d["schedule"].update(batch_size=True), "schedule.batch_size"),
        (lambda d: d["network"].update(backbone="alexnet"), "network.backbone"),
        (lambda d: d["anchors"].update(scales=[0.1, 0.2]), "anchors.scales"),
        (lambda d: d["schedule"].update(learning_rate=float("nan")), "schedule.learning_rate"),
    ],
)
def test_an_invalid_file_is_rejected_with_its_name(change, named):
    values = dataclasses.asdict(voc_config())
    change(values)
    with pytest.raises(ValueError, match=named) as error:
        config_file.from_json(json.dumps(values), "logs/config.json")
    assert "logs/config.json" in str(error.value)


def test_a_model_directory_of_another_network_is_rejected_with_the_differences(tmp_path):
    config_file.save(voc_config(), str(tmp_path))
    config_file.check_same_model(voc_config(schedule__learning_rate=1.0, loss__weight_decay=0.0), str(tmp_path))
    other = voc_config(network__image_size=(512, 512)).replace({"class_names": ("cat", "dog")})
    with pytest.raises(ValueError, match=r"network\.image_size") as error:
        config_file.check_same_model(other, str(tmp_path))
    assert "class_names ('cat', 'dog')" in str(error.value) and str(tmp_path) in str(error.value)
