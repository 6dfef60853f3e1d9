"""The part of YAML that the description of a data set needs: maps and lists, nested, of texts."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from utility.files.text_files import read_utf8, shortened

_MOST_BYTES = 1_000_000
_MOST_LEVELS = 20
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SINGLE = re.compile(r"'((?:[^']|'')*)'")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "e": "\x1b", '"': '"', "\\": "\\", "/": "/", " ": " "}
_IN_BRACKETS = re.compile(r"[^,\[\]{}]+")
_END_IN_BRACKETS = re.compile(r":(?=\s|$)|(?:\s|^)#")
_COMMENT = re.compile(r"(?:\s|^)#.*")
_NULLS = frozenset({"~", "null", "Null", "NULL"})
_BEYOND = "&*!%@`?"  # a value that begins so is an anchor, an alias, a tag, or reserved


class _Line(NamedTuple):
    number: int
    indent: int
    text: str


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return a file's map; each value is a text, a list or a map, and a list or a map holds such values.

    A text is as it is written: `1`, `no` and `2024-01-01` stay texts, and nothing, `~` and `null` are ''. A literal
    text (`|`, `>`) is one, without lines that begin with `#`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8, has more than a megabyte, or holds no map, or something that only the whole of
            YAML has: several documents, anchors, tags, maps as members of a list; the message names the line.
    """
    path = Path(path)
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"{path} has more than {_MOST_BYTES // 1_000_000} MB, too much for the description of a data set"
        )
    return _Parser(path, read_utf8(path)).document()


class _Parser:
    """Reads a file from its first line to its last; `_waiting` are the lines that are left."""

    def __init__(self, path: Path, text: str):
        self._path, self._number = path, 1
        self._waiting: deque[_Line] = deque()
        for number, line in enumerate(text.split("\n"), start=1):
            content = line.strip(" \r")
            if content and content[0] != "#" and content != "---":
                self._waiting.append(_Line(number, len(line) - len(line.lstrip(" ")), content))
        self._text, self._at = "", 0  # in brackets: the line, and the position in it

    def document(self) -> dict[str, Any]:
        """Return the map that the file holds."""
        if not self._waiting:
            raise ValueError(f"{self._path} is empty")
        in_brackets = self._waiting[0].text[0] in "[{"
        found = self._value(self._next().text, 0, 0) if in_brackets else self._block(0)
        if not isinstance(found, dict):
            self._refuse("the file holds a list, not 'key: value'")
        if self._waiting:
            self._refuse(f"'{shortened(self._next().text)}' is left over, or indented less than the lines before")
        return found

    def _refuse(self, fault: str) -> NoReturn:
        raise ValueError(f"{self._path}, line {self._number}: {fault}; write plain 'key: value', lists and names")

    def _next(self) -> _Line:
        line = self._waiting.popleft()
        self._number = line.number
        return line

    def _is_item(self, indent: int) -> bool:
        line = self._waiting[0] if self._waiting else None
        return line is not None and line.indent == indent and (line.text == "-" or line.text.startswith("- "))

    def _block(self, level: int) -> Any:
        """Return the list or map that begins with the next line."""
        if level > _MOST_LEVELS:
            self._refuse(f"it is nested more than {_MOST_LEVELS} times")
        indent = self._waiting[0].indent
        found = self._list(indent, level) if self._is_item(indent) else self._map(indent, level)
        if self._waiting and self._waiting[0].indent > indent:
            self._next()
            self._refuse("the line is indented more than those before it")
        return found

    def _map(self, indent: int, level: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._waiting and self._waiting[0].indent == indent:
            key, rest = self._key(self._next().text)
            if key in found:
                self._refuse(f"'{shortened(key)}' is there twice")
            found[key] = (
                self._list(indent, level) if not rest and self._is_item(indent) else self._value(rest, indent, level)
            )
        return found

    def _list(self, indent: int, level: int) -> list[Any]:
        found: list[Any] = []
        while self._is_item(indent):
            rest = self._next().text[1:].strip()
            plain = "" if rest[:1] in ("", '"', "'", "[", "{") else _COMMENT.sub("", rest, count=1)
            if ": " in plain or plain.endswith(":"):
                self._refuse("a member of a list is a map")
            if plain.startswith("- "):
                self._refuse("a list begins in the line of another")
            rest = "" if rest.startswith("#") else rest
            found.append(self._value(rest, indent, level))
        return found

    def _key(self, text: str) -> tuple[str, str]:
        """Return the key of a line and what follows it, without a comment if it is not quoted."""
        quoted = (_DOUBLE if text[0] == '"' else _SINGLE).match(text) if text[0] in "\"'" else None
        if quoted:
            key, rest = self._unquoted(quoted), text[quoted.end() :].lstrip()
        else:
            end = text.find(": ") if ": " in text else len(text) - 1
            key, rest = text[:end].rstrip(), text[end:]
        is_plain = " #" not in key and not text.startswith("- ") and text[0] not in f"{_BEYOND}[]{{}}|>\t"
        if not rest.startswith(":") or not (quoted or is_plain):
            self._refuse(f"'{shortened(text)}' is no 'key: value'")
        rest = rest[1:].strip()
        return key, "" if rest.startswith("#") else rest

    def _value(self, rest: str, indent: int, level: int) -> Any:
        """Return the value whose first line is `rest`, '' if it begins below."""
        if not rest:
            return self._block(level + 1) if self._waiting and self._waiting[0].indent > indent else ""
        if rest[0] in "|>":
            lines = []
            while self._waiting and self._waiting[0].indent > indent:
                lines.append(self._next().text)
            return "\n".join(lines)
        if rest[0] in _BEYOND:
            self._refuse(f"'{shortened(rest)}' is beyond what is read of YAML")
        if rest[0] in "[{\"'":
            self._text, self._at = rest, 0
            found = self._in_brackets(level)
            if _COMMENT.sub("", self._text[self._at :], count=1).strip():
                self._refuse(f"'{shortened(self._text[self._at :].strip())}' is left over")
            return found
        text = _COMMENT.sub("", rest, count=1).strip()
        while self._waiting and self._waiting[0].indent > indent:  # a long text goes on in the next line
            more = _COMMENT.sub("", self._next().text, count=1)
            if ": " in more or more.endswith(":"):
                self._refuse("the line is indented more than those before it")
            text = f"{text} {more}"
        return "" if text in _NULLS else text

    def _unquoted(self, match: re.Match[str]) -> str:
        if match[0][0] == "'":
            return match[1].replace("''", "'")
        return _ESCAPE.sub(lambda found: self._escaped(found[1]), match[1])

    def _escaped(self, code: str) -> str:
        if len(code) > 1:
            number = int(code[1:], 16)
            return chr(number) if number < 0x110000 else self._refuse(f"'\\{code}' is no character")
        return _ESCAPED[code] if code in _ESCAPED else self._refuse(f"'\\{shortened(code)}' is no character")

    def _character(self) -> str:
        """Go to the next character that is neither white space nor a comment, and return it."""
        while True:
            while self._at < len(self._text) and self._text[self._at].isspace():
                self._at += 1
            if self._at < len(self._text) and self._text[self._at] != "#":
                return self._text[self._at]
            if not self._waiting:
                self._refuse("a bracket is not closed")
            self._text, self._at = self._next().text, 0

    def _in_brackets(self, level: int) -> Any:
        """Return the value at the position: a list, a map or a text."""
        if level > _MOST_LEVELS:
            self._refuse(f"it is nested more than {_MOST_LEVELS} times")
        first = self._character()
        if first == "[":
            return [value for value, _ in self._members("]", level)]
        if first == "{":
            return {key if isinstance(key, str) else shortened(key): value for key, value in self._members("}", level)}
        return self._text_in_brackets(first)

    def _members(self, closing: str, level: int) -> list[tuple[Any, Any]]:
        """Return the members up to a bracket, each with what follows its colon, '' in a list."""
        found: list[tuple[Any, Any]] = []
        self._at += 1
        while self._character() != closing:
            member, value = self._in_brackets(level + 1), ""
            if closing == "}" and self._character() == ":":
                self._at += 1
                value = "" if self._character() in ",}" else self._in_brackets(level + 1)
            found.append((member, value))
            if self._character() == ",":
                self._at += 1
            elif self._character() != closing:
                self._refuse(f"'{shortened(self._text[self._at :])}' stands where a comma or a {closing} should")
        self._at += 1
        return found

    def _text_in_brackets(self, first: str) -> str:
        if first in "\"'":
            quoted = (_DOUBLE if first == '"' else _SINGLE).match(self._text, self._at)
            if not quoted:
                self._refuse("a quotation mark is not closed in its line")
            self._at = quoted.end()
            return self._unquoted(quoted)
        parts: list[str] = []
        while self._character() not in ",[]{}:" or not parts:  # a long text goes on in the next line
            found = _IN_BRACKETS.match(self._text, self._at)
            if not found or self._text[self._at] in _BEYOND:
                self._refuse(f"'{shortened(self._text[self._at :])}' is beyond what is read of YAML")
            end = _END_IN_BRACKETS.search(found[0])
            parts.append(found[0][: end.start()].strip() if end else found[0].strip())
            self._at += end.start() if end else len(found[0])
            if end and not end.start():
                self._refuse("a name is missing before a colon")
        text = " ".join(parts)
        return "" if text in _NULLS else text
