"""YAML files of other programs, read without giving any text a type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from utility.files.text_files import one_line, read_utf8, shortened

_MOST_BYTES = 1_000_000


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return a file's map; each value is a text, a list or a map, and a list or a map holds such values.

    A text is as it is written: `1`, `no` and `2024-01-01` stay texts, and nothing is ''. Of a key that is there twice
    the last value counts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not YAML in UTF-8, has more than a megabyte, several documents or aliases, or holds no map.
    """
    path = Path(path)
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"{path} has more than {_MOST_BYTES // 1_000_000} MB, too much for the description of a data set"
        )
    text = read_utf8(path)
    try:
        # an alias could stand for a value that is larger than any memory
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.BaseLoader)):
            raise ValueError(f"{path} has aliases (*name), which are not read: write out what they stand for")
        document = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {_reason(error)}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is not YAML that can be read: nested too deeply") from error
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ValueError(f"{path} must hold 'key: value' lines, but holds {shortened(document)}")
    return document


def _reason(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {one_line(str(error.problem))}"
    return one_line(str(error))
