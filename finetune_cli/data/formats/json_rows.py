"""Rows of JSON: one object on each line, or one list of objects, which may be of any size."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from finetune_cli.data.formats.file_kinds import opened
from finetune_cli.data.formats.lines import BOM, READ_BYTES, file_lines, not_utf8
from finetune_cli.data.formats.row import BadRow, Row, Values
from finetune_cli.errors import DataError

BLANKS = re.compile("[ \t\r\n]*")
LONGEST_WORD = len("-Infinity")
IN_PANDAS = 'in pandas to_json(..., orient="records", lines=True).'


def read_json(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    """Rows of a file of JSON Lines, or of one list of objects, whatever its name says."""
    with opened(path) as stream:
        head = stream.peek(READ_BYTES).removeprefix(BOM).lstrip()  # type: ignore[attr-defined]
        if head.startswith(b"["):
            yield from json_list_rows(stream, str(path))
        else:
            yield from json_line_rows(file_lines(stream, str(path)), str(path), needed=columns)


def json_line_rows(
    lines: Iterator[str | BadRow], name: str, *, first_line: int = 1, needed: Sequence[str] | None = None
) -> Iterator[Row]:
    """A row from each line that is not blank. needed: the columns that are looked for, where they are known."""
    decode = _decoder().decode
    row = -1
    for number, line in enumerate(lines, start=first_line):
        if isinstance(line, str) and not line.strip():
            continue
        row += 1
        if isinstance(line, BadRow):
            yield BadRow(name, row, number, line.problem)
            continue
        try:
            value = decode(line)
            if "\\u" in line:
                json.dumps(value, ensure_ascii=False).encode()
        except json.JSONDecodeError as err:
            yield BadRow(name, row, number, _bad_line(line, err))
        except (ValueError, RecursionError) as err:
            yield BadRow(name, row, number, _undecodable(err))
        else:
            if not isinstance(value, dict) or not value:
                yield BadRow(name, row, number, _not_an_object(value))
                continue
            if row == 0:
                _refuse_other_shapes(value, name, needed or ())
            yield row, value


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


def _bad_line(line: str, err: json.JSONDecodeError) -> str:
    problem = f"expected one JSON object per line, found bad JSON: {err.msg} (column {err.colno})."
    if line.strip() == "{":
        problem += " An object that goes over several lines can only be read in a list: [{...}, {...}]."
    return problem


def _undecodable(err: Exception) -> str:
    if isinstance(err, UnicodeEncodeError):
        return "half of a surrogate pair (\\ud800 to \\udfff), which is not a character."
    return str(err) if isinstance(err, ValueError) else "JSON nested too deeply."


def json_list_rows(stream: BinaryIO | LineStream, name: str) -> Iterator[Row]:
    """The objects of one list, decoded one at a time as the text arrives."""
    text = _Text(stream)
    decode = _decoder().raw_decode
    row = -1
    try:
        text.skip("[")
        while not text.skip("]"):
            row += 1
            if row and not text.skip(","):
                yield BadRow(name, row, text.line, "expected a comma or the end of the list.")
                return
            text.skip("")  # to the object's own line
            line = text.line
            value = text.take(decode)
            if not isinstance(value, dict) or not value:
                yield BadRow(name, row, line, _not_an_object([] if row == 0 and not isinstance(value, dict) else value))
                if row == 0 and not isinstance(value, dict):
                    return
                continue
            yield row, value
        if not text.is_at_end():
            yield BadRow(name, row + 1, text.line, "expected nothing after the end of the list. Join it into one list.")
    except UnicodeDecodeError as err:
        yield BadRow(name, row + 1, text.line, not_utf8(err.object[err.start], text.place_of(err)))
    except json.JSONDecodeError as err:
        what = (
            "the end of the file inside the list" if text.ended and _is_cut(err, margin=0) else f"bad JSON: {err.msg}"
        )
        yield BadRow(name, max(row, 0), text.line, f"expected a list of JSON objects, found {what}.")
    except (ValueError, RecursionError) as err:
        yield BadRow(name, max(row, 0), text.line, _undecodable(err))


def _is_cut(err: json.JSONDecodeError, *, margin: int = LONGEST_WORD) -> bool:
    """Whether more text could have made it right: the fault is at the end, or in a text without one."""
    return err.pos > len(err.doc.rstrip()) - margin - 1 or err.msg.startswith("Unterminated string")


class LineStream:
    """Lines that were decoded already, as the stream of bytes that they came from."""

    def __init__(self, lines: Iterator[str | BadRow]) -> None:
        self.lines = lines

    def read(self, size: int) -> bytes:
        """The next line, of whatever size. Raises ValueError for one that is not text."""
        line = next(self.lines, "")
        if isinstance(line, BadRow):
            raise ValueError(line.problem)
        return line.encode()


class _Text:
    """The text of a stream, of which no more is kept than the value that is being read."""

    def __init__(self, stream: BinaryIO | LineStream) -> None:
        self.stream = stream
        self.line = 1
        self.bytes_read = 0
        self.ended = False
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._place = "", 0

    def skip(self, mark: str) -> bool:
        """Go past blanks, and past `mark` when it comes next; says whether it did."""
        while self._next_place() == len(self._text) and self._read():
            pass
        self._move_to(self._next_place())
        if not mark or not self._text.startswith(mark, self._place):
            return False
        self._place += 1
        return True

    def take(self, decode: Any) -> Any:
        """The JSON value that comes next."""
        want = READ_BYTES
        while True:
            try:
                value, end = decode(self._text, self._place)
                if end < len(self._text) or self.ended:  # a number may go on in the next block
                    break
            except json.JSONDecodeError as err:
                if self.ended or not _is_cut(err):
                    raise
            # Twice as much each time, so that a value of any size is tried a few times alone.
            wanted, want = len(self._text) - self._place + want, want * 2
            while len(self._text) - self._place < wanted and self._read():
                pass
        if "\\u" in self._text[self._place : end]:
            json.dumps(value, ensure_ascii=False).encode()
        self._move_to(end)
        return value

    def _next_place(self) -> int:
        blanks = BLANKS.match(self._text, self._place)
        return self._place if blanks is None else blanks.end()

    def place_of(self, err: UnicodeDecodeError) -> int:
        """The offset in bytes of what could not be decoded."""
        return self.bytes_read - len(err.object) + err.start

    def is_at_end(self) -> bool:
        self.skip("")
        return self._place == len(self._text)

    def _move_to(self, place: int) -> None:
        self.line += self._text.count("\n", self._place, place)
        self._place = place

    def _read(self) -> bool:
        block = self.stream.read(READ_BYTES)
        self.ended = not block
        self.bytes_read += len(block)
        self._text, self._place = self._text[self._place :] + self._decoder.decode(block, final=not block), 0
        return bool(block)


def _unique_keys(pairs: list[tuple[str, Any]]) -> Values:
    values = dict(pairs)
    if len(values) < len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {key!r} occurs twice in one object.")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON and not a value. Write null, or leave the row out.")


def _not_an_object(value: object) -> str:
    if isinstance(value, list):
        return "expected one JSON object per line, found a list. Write each of its objects on a line of its own."
    return f"expected one JSON object with at least one key, found {json.dumps(value, ensure_ascii=False)[:40]}."


def _refuse_other_shapes(value: dict[str, Any], name: str, needed: Sequence[str]) -> None:
    """Raise DataError for a first object that holds all rows: as columns, as pandas writes them, or inside a list.

    needed: the columns that are looked for; one of them makes it a row.
    """
    kind = next((kind for kind in (list, dict) if all(isinstance(item, kind) for item in value.values())), None)
    if kind is not None:
        found = "one object of lists (a column each)" if kind is list else "one object of objects (a column each)"
        raise DataError(
            f"{name}: expected one JSON object per line and row, found {found}. "
            f'Write rows instead: {{"{next(iter(value))}": ...}} on each line; {IN_PANDAS}'
        )
    if set(needed) & set(value):
        return
    if {"columns", "data"} <= set(value):
        raise DataError(
            f"{name}: expected one JSON object per line and row, found the columns and the data apart. "
            f"Write rows instead; {IN_PANDAS}"
        )
    inner = [key for key, item in value.items() if isinstance(item, list) and item and isinstance(item[0], dict)]
    if inner and needed:
        raise DataError(
            f"{name}: expected the columns {', '.join(map(repr, needed))} in one JSON object per row, found one object "
            f"whose {inner[0]!r} holds a list of objects. Write that list alone: jq .{inner[0]} {name} > rows.json"
        )
