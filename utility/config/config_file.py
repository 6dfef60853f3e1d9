"""The config.json of a model directory: written, read, and held against the config of a training that goes on."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from operator import attrgetter
from pathlib import Path
from typing import Any

from utility.config.checks import check
from utility.config.settings import LABELS_FILE, Config

CONFIG_FILE = "config.json"


def to_json(config: Config) -> str:
    """Return the config as JSON, every setting included."""
    return json.dumps(dataclasses.asdict(config), indent=1) + "\n"


def from_json(text: str, source: str = CONFIG_FILE) -> Config:
    """Build and check a config from JSON; a ValueError names `source` and the setting that does not fit."""
    try:
        return check(_build(Config, json.loads(text), ""))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: not a config of this project: {error}") from error


def _build(kind: Any, value: Any, name: str) -> Any:
    """Give a value from JSON the declared type: lists become tuples and objects become dataclasses."""
    if dataclasses.is_dataclass(kind):
        types_of = typing.get_type_hints(kind)
        unknown = sorted(set(value) - set(types_of))
        if unknown:
            raise ValueError(f"unknown setting {name}{unknown[0]}")
        return kind(**{key: _build(types_of[key], item, f"{name}{key}.") for key, item in value.items()})  # type: ignore[operator]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return tuple(_build(arguments[0], item, name) for item in value)
    allowed = arguments if origin is types.UnionType else (kind,)
    if isinstance(value, int) and not isinstance(value, bool) and float in allowed and int not in allowed:
        return float(value)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ValueError(f"{name.rstrip('.')}={value!r} has the wrong type")
    return value


def save(config: Config, model_dir: str) -> None:
    """Write config.json and labels.txt into a model directory, each whole or not at all."""
    directory = Path(model_dir)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (
        (CONFIG_FILE, to_json(config)),
        (LABELS_FILE, "".join(f"{c}\n" for c in config.class_names)),
    ):
        partial = directory / f".{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(directory / name)


# What shapes the network and what its outputs mean; and what may change while it is trained.
_MODEL = ("class_names", "network", "anchors", "targets.coordinates", "targets.prior_variances")
_TRAINING = ("schedule", "loss", "augment", "targets")


def check_same_model(config: Config, model_dir: str) -> list[str]:
    """Return how the training differs from the one that a model directory belongs to, a line for each setting.

    A ValueError lists the differences if it belongs to another network: what shapes the network and what its
    outputs mean must stay; schedule, loss and augmentation may change.
    """
    lists = differences(config, model_dir, _MODEL)
    if lists:
        raise ValueError(
            f"--model_dir={model_dir} holds another model ({CONFIG_FILE}): {'; '.join(lists)}; take another --model_dir"
            " or the settings it was trained with"
        )
    return differences(config, model_dir, _TRAINING)


def differences(config: Config, model_dir: str, parts: tuple[str, ...]) -> list[str]:
    """List where a config differs from a model directory's in some parts; [] if that directory has none."""
    trained = load(model_dir)
    if trained is None:
        return []
    lists = []
    for part in parts:
        asked, there = (settings(attrgetter(part)(each), part) for each in (config, trained))
        lists += [f"{name} {asked[name]} instead of {there[name]}" for name in asked if asked[name] != there[name]]
    return lists


def settings(node: Any, name: str = "") -> dict[str, Any]:
    """Return every setting of a config, or of a part of it, by its dotted name, which begins with `name`."""
    if not dataclasses.is_dataclass(node):
        return {name: node}
    parts = [(f"{name}.{part.name}".lstrip("."), getattr(node, part.name)) for part in dataclasses.fields(node)]
    return {dotted: value for part, inner in parts for dotted, value in settings(inner, part).items()}


def load(model_dir: str) -> Config | None:
    """Return the config that a model directory was trained with, or None where there is no config.json."""
    path = Path(model_dir) / CONFIG_FILE
    return from_json(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None
