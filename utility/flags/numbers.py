"""Flags with a number: written in decimal digits, and in the range that utility/config/checks.py gives it."""

from __future__ import annotations

import re

from absl import flags

from utility.config import checks
from utility.errors import UserError
from utility.files.text_files import finite_number, whole_number

flags.disclaim_key_flags()  # a flag belongs to the module that asks for it

_HEXADECIMAL = re.compile("0x[0-9a-fA-F]{1,40}")  # as absl's own flags take it


class _Number(flags.ArgumentParser):
    """Parses one number."""

    def __init__(self, kind: type, range_name: str | None):
        super().__init__()
        self._kind, self._range_name = kind, range_name
        self.syntactic_help = (
            kind_name(kind) if range_name is None else f"{kind_name(kind)}, {checks.RANGES[range_name]}"
        )

    def parse(self, argument: str | float) -> float:
        """Return the number that a text writes; a number, as a default is given, is checked alike."""
        value = read(self._kind, argument) if isinstance(argument, str) else argument
        if value is None:
            raise UserError(f"must be {kind_name(self._kind)} in decimal digits")
        if self._range_name and (fault := checks.fault(self._range_name, value)):
            raise UserError(f"must be {fault}")
        return value

    def flag_type(self) -> str:
        """Return the type as --help shows it."""
        return self._kind.__name__


class _Seed(_Number):
    """Parses a whole number, in decimal or hexadecimal digits."""

    def parse(self, argument: str | float) -> float:
        """Return the number that a text writes, such as 0xBEEF."""
        if isinstance(argument, str) and _HEXADECIMAL.fullmatch(argument):
            argument = int(argument, 16)
        return super().parse(argument)


def kind_name(kind: type) -> str:
    """Return what an error calls a number of a kind: `int` or `float`."""
    return "a whole number" if kind is int else "a number"


def read(kind: type, text: str) -> float | None:
    """Return the number of a kind, `int` or `float`, that a text writes, None if it writes none."""
    return whole_number(text) if kind is int else finite_number(text)


def define_integer(name: str, default: int | None, text: str, range_name: str = "") -> None:
    """Define a flag with a whole number in the range called `range_name`, by default like the flag."""
    flags.DEFINE(_Number(int, range_name or name), name, default, text)


def define_seed(name: str, default: int, text: str) -> None:
    """Define a flag with a seed in the range of its name."""
    flags.DEFINE(_Seed(int, name), name, default, text)


def define_float(name: str, default: float | None, text: str, range_name: str = "") -> None:
    """Define a flag with a number in the range called `range_name`, by default like the flag."""
    flags.DEFINE(_Number(float, range_name or name), name, default, text)


def define_unchecked(name: str, default: float, text: str) -> None:
    """Define a flag with a number of the default's type, whose range is checked elsewhere."""
    flags.DEFINE(_Number(type(default), None), name, default, text)
