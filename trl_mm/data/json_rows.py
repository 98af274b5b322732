"""
Values in JSON files one after another, so that no file is in memory as a whole.

Not through ijson, which is as fast: nesting costs it memory by its square (100,000 brackets take all there is), it
refuses NaN and integers of more than 64 bits, turns half an emoji into "?", and names no line.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from .shown import shown


_CHUNK = 1 << 20  # characters of a list that are read together, at least
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class JSONRows:
    """
    The values in JSON files. A file that begins with `[` is one list, otherwise each of its lines is a value.

    Args:
        files (`Sequence[Path]`):
            Files in UTF-8.

    Iterating raises a `ValueError` that names file and line where something else is found.
    """

    files: Sequence[Path]

    def __iter__(self) -> Iterator[Any]:
        for file in self.files:
            try:
                with _open(file) as text:
                    first = next((line.lstrip()[0] for line in text if line.strip()), "")
                with _open(file) as text:
                    reader = (_ListReader if first == "[" else _LineReader)(text)
                    yield from reader
            except UnicodeDecodeError as error:
                raise ValueError(f"{shown(str(file), 1000)} is not text in UTF-8: {error}. Convert it.") from error
            except (ValueError, RecursionError) as error:
                line = reader.line + getattr(error, "lineno", 1) - 1
                raise ValueError(
                    f"{shown(str(file), 1000)}, line {line}: no JSON ({error}). Write one object per line, or one "
                    "list."
                ) from error


def _open(file: Path) -> TextIO:
    return open(file, encoding="utf-8-sig", newline="\n")


class _LineReader:
    """One value per line. `line` is the one that is being read."""

    def __init__(self, text: TextIO):
        self.text = text
        self.line = 1

    def __iter__(self) -> Iterator[Any]:
        for content in self.text:
            if content.strip():
                yield json.loads(content.rstrip("\n"))
            self.line += 1


class _ListReader:
    """The values of one list. `line` is the one that the buffer begins in."""

    def __init__(self, text: TextIO):
        self.text = text
        self.line = 1
        self.buffer, self.position = "", 0
        self.ended = False
        self.decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[Any]:
        self._take("[")
        if self._next() == "]":
            self._take("]")
        else:
            yield self._value()
            while self._take(",]") == ",":
                yield self._value()
        if self._next():
            raise json.JSONDecodeError("Extra data", self.buffer, self.position)

    def _next(self) -> str:
        """The next character that is no white space, `""` at the end."""
        while True:
            if space := _SPACE.match(self.buffer, self.position):
                self.position = space.end()
            if self.position < len(self.buffer):
                return self.buffer[self.position]
            if not self._read_on():
                return ""

    def _take(self, wanted: str) -> str:
        found = self._next()
        if not found or found not in wanted:
            raise json.JSONDecodeError(f"Expecting one of {wanted}", self.buffer, self.position)
        self.position += 1
        return found

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.position)
            except json.JSONDecodeError:
                if self.ended:
                    raise
                self._read_on()  # it may be cut off
                continue
            if end < len(self.buffer) or not self._read_on():  # a number may go on
                self.position = end
                return value

    def _read_on(self) -> bool:
        self.line += self.buffer.count("\n", 0, self.position)
        self.buffer = self.buffer[self.position :]
        self.position = 0
        more = self.text.read(max(_CHUNK, len(self.buffer)))  # doubled, lest a long value be parsed again and again
        self.buffer += more
        self.ended = not more
        return not self.ended
