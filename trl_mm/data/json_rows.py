"""
Values in JSON files one after another, so that no file is in memory as a whole.

Not through ijson, which is as fast: nesting costs it memory by its square (100,000 brackets take all there is), it
refuses NaN and integers of more than 64 bits, turns half an emoji into "?", and names no line.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from .shown import shown


_CHUNK = 1 << 20  # characters of a list that are read together, at least
_GIVEN_UP_AFTER = 8  # lines at the beginning of a file: it is an HTML page, or one object on several lines
_HEAD = 10_000  # characters in which an object shows how it is written
_KEYED = re.compile(r'\s*\{\s*"[\w./-]*\d[\w./-]*"\s*:\s*\{\s*"(?:chosen|rejected)"\s*:\s*\[')
_SPACE = re.compile(r"\s+")
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of such bytes


@dataclass(frozen=True)
class Damage:
    """
    What stands in the place of rows that cannot be read.

    Args:
        reason (`str`): what is wrong, with file and place.
        count (`int`, *optional*, defaults to `1`): how many rows that are, as far as is known; 0 if none is lost.
    """

    reason: str
    count: int = 1


@dataclass(frozen=True)
class JSONRows:
    """
    The values in JSON files. A file that begins with `[` is one list, one object of pairs by their image has their
    rows; otherwise each line is a value.

    Args:
        files (`Sequence[Path]`):
            Files in UTF-8.
        goes_on (`bool`, *optional*, defaults to `False`):
            Whether to give a [`Damage`] in the place of what cannot be read, and go on after it: with the next line,
            or, in a list, with the next file.

    Iterating raises a `ValueError` that names file and line where something else is found, unless it `goes_on`.
    """

    files: Sequence[Path]
    goes_on: bool = False

    def __iter__(self) -> Iterator[Any]:
        for file in self.files:
            yield from self.values(file)

    def values(self, file: Path) -> Iterator[Any]:
        """The values in one file, with a [`Damage`] in the place of each that cannot be read."""
        reader: _Reader | None = None
        try:
            with self._open(file) as text:
                first = next((line.lstrip()[0] for line in text if line.strip()), "")
            with self._open(file) as text:
                is_keyed = first == "{" and _KEYED.match(text.read(_HEAD))
            with self._open(file) as text:
                kind = _ListReader if first == "[" else _KeyedReader if is_keyed else _LineReader
                reader = kind(text, file, self.goes_on)
                yield from reader
        except UnicodeDecodeError as error:
            raise ValueError(f"{shown(str(file), 1000)} is not text in UTF-8: {error}. Convert it.") from error
        except (ValueError, RecursionError) as error:
            assert reader is not None
            if not self.goes_on:
                raise ValueError(reader.problem(error)) from error
            yield Damage(f"{reader.problem(error)} The rest of the file is not read.")

    def _open(self, file: Path) -> TextIO:
        return open(file, encoding="utf-8-sig", newline="\n", errors="surrogateescape" if self.goes_on else None)


class _Reader(ABC):
    def __init__(self, text: TextIO, file: Path, goes_on: bool):
        self.text, self.file, self.goes_on = text, file, goes_on
        self.line = 1

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """The values, with a [`Damage`] in the place of each that cannot be read."""

    def place(self, error: Exception | None = None) -> str:
        """File and line of an error, or of what is being read."""
        return f"{shown(str(self.file), 1000)}, line {self.line + getattr(error, 'lineno', 1) - 1}"

    def problem(self, error: Exception) -> str:
        """What is wrong, and where."""
        return f"{self.place(error)}: no JSON ({error}). Write one object per line, or one list."

    def not_utf_8(self, text: str, begin: int, end: int) -> Damage | None:
        """A [`Damage`] if there are bytes in this part of the text that are no UTF-8."""
        found = None if text.isascii() else _NOT_UTF_8.search(text, begin, end)
        if not self.goes_on or found is None:
            return None
        return Damage(f"{self.place(json.JSONDecodeError('', text, found.start()))}: not text in UTF-8. Convert it.")


class _LineReader(_Reader):
    """One value per line. `line` is the one that is being read."""

    def __iter__(self) -> Iterator[Any]:
        damaged, is_lines = 0, False
        for content in self.text:
            if content.strip():
                value = self._value(content)
                yield value
                damaged += isinstance(value, Damage)
                is_lines = is_lines or isinstance(value, dict)
                if damaged == _GIVEN_UP_AFTER and not is_lines:
                    yield Damage(
                        f"{self.place()}: nothing here is a line of JSON. The rest of the file is not read.", 0
                    )
                    return
            self.line += 1

    def _value(self, content: str) -> Any:
        try:
            return self.not_utf_8(content, 0, len(content)) or json.loads(content.rstrip("\n"))
        except (ValueError, RecursionError) as error:
            if not self.goes_on:
                raise
            return Damage(self.problem(error))


class _KeyedReader(_Reader):
    """
    The pairs of one object that names them by their image, as HA-DPO writes descriptions: `{"1": {"chosen": [...],
    ...}}`. It is read as a whole.
    """

    def __iter__(self) -> Iterator[Any]:
        for name, entry in json.loads(self.text.read()).items():
            if isinstance(entry, dict) and "chosen" in entry:
                said = json.dumps(entry, ensure_ascii=False)
                yield self.not_utf_8(said, 0, len(said)) or {"image_id": name, **entry}
            elif self.goes_on:
                yield Damage(f"{shown(str(self.file), 1000)}: `{shown(name)}` is no pair. Remove it.")
            else:
                raise ValueError(f"`{shown(name)}` is no pair")


class _ListReader(_Reader):
    """The values of one list. `line` is the one that the buffer begins in."""

    def __init__(self, text: TextIO, file: Path, goes_on: bool):
        super().__init__(text, file, goes_on)
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
                if self.goes_on and self._next() == "]":
                    yield Damage(
                        self.problem(json.JSONDecodeError("Comma before the end", self.buffer, self.position)), 0
                    )
                    self._take("]")
                    break
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
                begin, self.position = self.position, end
                return self.not_utf_8(self.buffer, begin, end) or value

    def _read_on(self) -> bool:
        self.line += self.buffer.count("\n", 0, self.position)
        self.buffer = self.buffer[self.position :]
        self.position = 0
        more = self.text.read(max(_CHUNK, len(self.buffer)))  # doubled, lest a long value be parsed again and again
        self.buffer += more
        self.ended = not more
        return not self.ended
