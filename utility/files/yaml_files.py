"""YAML files of other programs, read without giving any text a type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from utility.errors import UserError
from utility.files.text_files import one_line, read_utf8, shortened

_MOST_BYTES = 200_000  # which take 10 s at most
_MOST_DEEP = 20  # lists and maps in one another


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return a file's map; each value is a text, a list or a map, and a list or a map holds such values.

    A text is as it is written: `1`, `no` and `2024-01-01` stay texts, and nothing is ''. Of a key that is there twice
    the last value counts.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is not YAML in UTF-8, has more than 200 kB, several documents or aliases, is nested
            too deeply, or holds no map.
    """
    path = Path(path)
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path} has more than {_MOST_BYTES // 1000} kB, too much for the description of a data set")
    text = read_utf8(path)
    try:
        depth = 0
        for event in yaml.parse(text, yaml.BaseLoader):
            if isinstance(event, yaml.AliasEvent):  # it could stand for a value that is larger than any memory
                raise UserError(f"{path} has aliases (*name), which are not read: write out what they stand for")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MOST_DEEP:  # the time to read it grows with the square of the depth
                raise UserError(f"{path} has more than {_MOST_DEEP} lists and maps in one another")
        document = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError as error:
        reason = str(error)
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            reason = f"line {error.problem_mark.line + 1}: {error.problem}"
        raise UserError(f"{path} is not YAML: {one_line(reason)}") from error
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise UserError(f"{path} must hold 'key: value' lines, but holds {shortened(document)}")
    return document
