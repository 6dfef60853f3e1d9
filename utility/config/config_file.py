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
from utility.files import json_files
from utility.files.text_files import read_utf8, shortened, write_whole

CONFIG_FILE = "config.json"
_REMEDY = "restore the file that the training wrote"


def to_json(config: Config) -> str:
    """Return all settings of the config as JSON."""
    return json.dumps(dataclasses.asdict(config), indent=1) + "\n"


def from_json(text: str, source: str = CONFIG_FILE) -> Config:
    """Return the config that JSON holds; a UserError names `source` and the wrong setting."""
    document = json_files.parse_json(text, source, _REMEDY)
    try:
        config = check(json_files.converted(document, Config))
        _refuse_unknown(document, dataclasses.asdict(config))
    except UserError as error:
        raise UserError(f"{source}: not a config of this project: {error}; {_REMEDY}") from error
    return config


def _refuse_unknown(written: Any, known: Any, name: str = "") -> None:
    """Raise a UserError for a key that is no setting; msgspec takes no notice of it."""
    if isinstance(known, dict):
        for key, value in written.items():
            if key not in known:
                raise UserError(f"unknown setting {shortened(f'{name}{key}')}")
            _refuse_unknown(value, known[key], f"{name}{key}.")
    elif isinstance(known, tuple):  # of extra layers, or of numbers
        for value, item in zip(written, known, strict=True):
            _refuse_unknown(value, item, name)


def save(config: Config, model_dir: str) -> None:
    """Write config.json and labels.txt to a model directory; each replaces the old file only once it is complete."""
    write_whole(Path(model_dir, CONFIG_FILE), to_json(config))
    write_whole(Path(model_dir, LABELS_FILE), "".join(f"{name}\n" for name in config.class_names))


# Settings that define the network and its outputs, and settings that may change when a training is resumed
_MODEL = ("class_names", "network", "anchors", "targets.coordinates", "targets.prior_variances")
_TRAINING = ("views", "schedule", "loss", "augment", "targets", "detection")


def check_same_model(config: Config, model_dir: str) -> list[str]:
    """Return a line for each training setting that differs from the model directory's config.json.

    Schedule, loss, augmentation, target assignment and detection may change. A UserError lists the differences in
    settings that define the network and its outputs, which may not.
    """
    changed = differences(config, model_dir, _MODEL)
    if changed:
        raise UserError(
            f"--model_dir={model_dir} holds another model ({CONFIG_FILE}): {'; '.join(changed)}; take another"
            " --model_dir or the settings it was trained with"
        )
    return differences(config, model_dir, _TRAINING)


def differences(config: Config, model_dir: str, parts: tuple[str, ...]) -> list[str]:
    """Return a line for each setting, within some parts, that differs from config.json, or [] if there is none."""
    trained = load(model_dir)
    if trained is None:
        return []
    changed = []
    for part in parts:
        new, old = (settings(attrgetter(part)(each), part) for each in (config, trained))
        changed += [f"{name} {new[name]} instead of {old[name]}" for name in new if new[name] != old[name]]
    return changed


def settings(node: Any, name: str = "") -> dict[str, Any]:
    """Return dotted name -> value of every setting in a config, or in the part of it called `name`."""
    if not dataclasses.is_dataclass(node):
        return {name: node}
    fields = [(f"{name}.{field.name}".lstrip("."), getattr(node, field.name)) for field in dataclasses.fields(node)]
    return {dotted: value for field, inner in fields for dotted, value in settings(inner, field).items()}


def folders_beside(path: str) -> list[Path]:
    """Return the folder with the config.json of the checkpoint at `path`, a folder or file; [] if it has none.

    It is known before TensorFlow, which finds the checkpoint, has started, so that a broken file is refused at once.
    """
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return [folder] if (folder / CONFIG_FILE).is_file() else []


def load(model_dir: str) -> Config | None:
    """Return the config that a model directory was trained with, or None if it has no config.json."""
    path = Path(model_dir) / CONFIG_FILE
    return from_json(read_utf8(path), str(path)) if path.is_file() else None
