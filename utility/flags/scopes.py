"""Flags with scopes of variables, in characters that TensorFlow allows in a name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from absl import flags

flags.disclaim_key_flags()  # a flag belongs to the module that asks for it

_NAME = r"[A-Za-z0-9_.\\>-]+"
_SCOPE_OF_CHECKPOINT = re.compile(rf"{_NAME}(/{_NAME})*")
_SCOPE = re.compile(rf"(?=[A-Za-z0-9.]){_SCOPE_OF_CHECKPOINT.pattern}")
_PART = re.compile(r"[A-Za-z0-9_.\\/>-]+")  # of a variable's name, where it may begin and end anywhere
_MOST_CHARACTERS = 200


def define_scope(name: str, default: str | None, text: str, *, of_checkpoint: bool = False) -> None:
    """Define a flag with one scope, such as `ssd300` or `detector/ssd300`.

    That of a checkpoint may be empty, or begin with `_`: TensorFlow only looks it up.
    """
    flags.DEFINE_string(name, default, text)

    def check(scope: str | None) -> bool:
        if scope is None or (of_checkpoint and not scope):
            return True
        if scope.endswith("/"):
            raise flags.ValidationError("must be without the last slash")
        if not (_SCOPE_OF_CHECKPOINT if of_checkpoint else _SCOPE).fullmatch(scope) or len(scope) > _MOST_CHARACTERS:
            start = "" if of_checkpoint else " beginning with a letter or digit,"
            raise flags.ValidationError(
                f"must be a scope such as ssd300: letters, digits and . _ -{start or ','} parts separated by single"
                f" slashes, {_MOST_CHARACTERS} characters at most"
            )
        return True

    flags.register_validator(name, check)


def define_parts_of_names(name: str, default: Sequence[str], text: str) -> None:
    """Define a flag with scopes or other parts of variables' names, separated by commas; it may be empty."""
    flags.DEFINE_list(name, default, text)

    def check(parts: Sequence[str]) -> bool:
        if not all(_PART.fullmatch(part) for part in parts):
            raise flags.ValidationError(
                "must be parts of variables' names, separated by single commas: letters, digits and . _ - /"
            )
        return True

    flags.register_validator(name, check)
