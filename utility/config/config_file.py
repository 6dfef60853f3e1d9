"""config.json of a model directory: writes and reads it, and compares it with the config of a resumed training."""

from __future__ import annotations

import dataclasses
import json
from operator import attrgetter
from pathlib import Path
from typing import Any

from utility.config.checks import check
from utility.config.settings import LABELS_FILE, Config
from utility.errors import UserError
from utility.files.json_files import converted, read_json
from utility.files.text_files import shortened, write_whole

CONFIG_FILE = "config.json"
_REMEDY = "restore the file that the training wrote"

# Settings that define the network and its outputs, and settings that may change when a training is resumed
_MODEL = ("class_names", "network", "anchors", "targets.coordinates", "targets.prior_variances")
_TRAINING = ("pixel_extent", "views", "schedule", "loss", "augment", "targets", "detection")


def save(config: Config, model_dir: str) -> None:
    """Write config.json and labels.txt to a model directory; each replaces the old file only once it is complete."""
    write_whole(Path(model_dir, CONFIG_FILE), json.dumps(dataclasses.asdict(config), indent=1) + "\n")
    write_whole(Path(model_dir, LABELS_FILE), "".join(f"{name}\n" for name in config.class_names))


def load(model_dir: str) -> Config | None:
    """Return the config that a model directory was trained with, None without a config.json; a UserError names a fault.

    Settings that it lacks have their defaults.
    """
    path = Path(model_dir) / CONFIG_FILE
    if not path.is_file():
        return None
    document = read_json(path, _REMEDY)
    try:
        config = check(converted(document, Config))
        _refuse_unknown(document, dataclasses.asdict(config))
    except UserError as error:
        raise UserError(f"{path}: not a config of this project: {error}; {_REMEDY}") from error
    return config


def _refuse_unknown(written: dict[str, Any], known: dict[str, Any], part: str = "") -> None:
    """Raise a UserError for a key that is no setting; msgspec takes no notice of it."""
    for key, value in written.items():
        if key not in known:
            raise UserError(f"unknown setting {shortened(f'{part}{key}')}")
        if isinstance(value, dict):
            _refuse_unknown(value, known[key], f"{part}{key}.")


def check_same_model(config: Config, model_dir: str) -> list[str]:
    """Return a line for each training setting that differs from config.json: schedule, loss, detection and the like.

    A UserError lists the differences in settings that define the network and its outputs, which may not change.
    """
    if changed := differences(config, model_dir, _MODEL):
        raise UserError(
            f"--model_dir={model_dir} holds another model ({CONFIG_FILE}): {'; '.join(changed)}; take another"
            " --model_dir or the settings it was trained with"
        )
    return differences(config, model_dir, _TRAINING)


def differences(config: Config, model_dir: str, parts: tuple[str, ...]) -> list[str]:
    """Return a line for each setting, within some parts, that differs from config.json, or [] if there is none."""
    trained = load(model_dir) or config
    old = {name: value for part in parts for name, value in settings(attrgetter(part)(trained), part).items()}
    new = {name: attrgetter(name)(config) for name in old}
    return [f"{name} {new[name]} instead of {old[name]}" for name in new if new[name] != old[name]]


def settings(node: Any, name: str = "") -> dict[str, Any]:
    """Return dotted name -> value of every setting in a config, or in the part of it called `name`."""
    if not dataclasses.is_dataclass(node):
        return {name: node}
    fields = [(f"{name}.{field.name}".lstrip("."), getattr(node, field.name)) for field in dataclasses.fields(node)]
    return {dotted: value for field, inner in fields for dotted, value in settings(inner, field).items()}
