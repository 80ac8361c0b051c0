"""Rows of CSV and TSV files, taken literally: a text that says NA, None or 123 stays that text."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from finetune_cli.data.formats.files import opened
from finetune_cli.data.formats.lines import file_lines
from finetune_cli.data.formats.quoting import quotes_are_syntax, wraps_texts
from finetune_cli.data.formats.row import AS_USUAL, BadRow, Row, TableForm, say_once
from finetune_cli.errors import DataError

MAX_CELL_CHARACTERS = 64 * 2**20  # the csv module refuses cells above 128 KiB unless told otherwise
LOOKED_AT_CHARACTERS = 2**20  # of a TSV file from its first quotation mark on
LOOKED_AT_ROWS = 100  # below a first line that may be no header
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
SENTENCE_WORDS, SENTENCE_CHARACTERS = 6, 60

Records = Iterator[tuple[int, "list[str] | str"]]  # (line where it starts, fields), or (line, problem)


def read_csv(path: Path, columns: Sequence[str] | None, form: TableForm = AS_USUAL) -> Iterator[Row]:
    """Rows of a file with commas; see `read_rows`."""
    yield from _read_table(path, columns, form, separator=",")


def read_tsv(path: Path, columns: Sequence[str] | None, form: TableForm = AS_USUAL) -> Iterator[Row]:
    """Rows of a file with tabs; whether it has quoting is seen in its first quotation marks."""
    yield from _read_table(path, columns, form, separator="\t")


def _read_table(path: Path, columns: Sequence[str] | None, form: TableForm, *, separator: str) -> Iterator[Row]:
    with opened(path) as file:
        lines = file_lines(file, str(path))
        if form.quoting == "none":
            records: Records = _plain_records(lines, separator)
        elif separator == "\t" and form.quoting == "auto":
            records = _tab_records(lines, path, form)
        else:
            records = _csv_records(lines, separator)
        yield from _Table(path, separator, form, columns).rows(records)


def _plain_records(lines: Iterator[str | BadRow], separator: str, *, first_line: int = 1) -> Records:
    for number, line in enumerate(lines, start=first_line):
        yield number, line.problem if isinstance(line, BadRow) else _split(line, separator)


def _split(line: str, separator: str) -> list[str]:
    line = line.rstrip("\r\n")
    return line.split(separator) if line else []


def _tab_records(lines: Iterator[str | BadRow], path: Path, form: TableForm) -> Records:
    """Split at tabs up to the first quotation mark, where both readings are the same; then as the file shows."""
    num_columns = None if form.columns is None else len(form.columns)
    has_header = num_columns is None
    for number, line in enumerate(lines, start=1):
        if isinstance(line, BadRow):
            yield number, line.problem
        elif '"' not in line:
            fields = _split(line, "\t")
            num_columns = num_columns or len(fields) or None
            yield number, fields
        else:
            ahead = _look_ahead(line, lines)
            texts = [text for text in ahead if isinstance(text, str)]
            is_first = has_header and num_columns is None
            whole = sum(map(len, texts)) < LOOKED_AT_CHARACTERS
            rest = chain(ahead, lines)
            if quotes_are_syntax(texts, num_columns=num_columns, is_whole=whole, has_header=is_first):
                say_once(
                    f"{path}: the quotation marks around texts are read as in CSV. Where they belong to the texts, set "
                    f"data.quoting: none."
                )
                yield from _csv_records(rest, "\t", first_line=number)
            else:
                if wraps_texts(texts):
                    say_once(
                        f"{path}: quotation marks are taken as part of the texts. If a program put them around the "
                        f"texts, set data.quoting: csv."
                    )
                yield from _plain_records(rest, "\t", first_line=number)
            return


def _look_ahead(first: str, lines: Iterator[str | BadRow]) -> list[str | BadRow]:
    found: list[str | BadRow] = [first]
    size = len(first)
    while size < LOOKED_AT_CHARACTERS and (line := next(lines, None)) is not None:
        found.append(line)
        size += len(line) if isinstance(line, str) else 0
    return found


def _csv_records(lines: Iterator[str | BadRow], separator: str, *, first_line: int = 1) -> Records:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))
    bad: list[BadRow] = []
    header = next(lines, "")
    ahead = [header] if header else []
    reader: Any = csv.reader(_set_bad_lines_aside(chain(ahead, lines), bad), strict=True, delimiter=separator)
    while True:
        start = reader.line_num + first_line
        try:
            fields: list[str] | str = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            fields = _csv_problem(str(err))
            if start == first_line and isinstance(header, str) and (other := _other_separator(header, separator)):
                fields = other
        if bad:
            start, fields = bad[0].line or start, bad[0].problem
            bad.clear()
        yield start, fields


def _set_bad_lines_aside(lines: Iterator[str | BadRow], bad: list[BadRow]) -> Iterator[str]:
    for line in lines:
        if isinstance(line, BadRow):
            bad.append(line)
            yield "\n"  # keeps the csv module's count of lines; a blank record, which the fault replaces
        else:
            yield line


def _csv_problem(error: str) -> str:
    if "unexpected end of data" in error:
        return (
            'a quotation mark opens here and is never closed. Double it inside a text ("") and put the text in quotes.'
        )
    if "expected after" in error:
        return 'text after a closing quotation mark. Inside a quoted text, double each quotation mark ("").'
    return f"this is not a CSV row: {error}."


def _other_separator(line: str, separator: str) -> str | None:
    """What to say of a header whose columns are separated by another mark; None when they are not."""
    names = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "vertical bars"}
    hints = {
        "\t": "Name it .tsv.",
        ";": "Save it with commas.",
        ",": "Name it .csv.",
        "|": "Save it with commas.",
    }
    for mark in names:
        if mark == separator or mark not in line:
            continue
        try:
            fields = next(csv.reader([line], delimiter=mark, strict=True), [])
        except csv.Error:
            continue
        if len(fields) > 1 and not any(separator in field for field in fields):
            return f"the columns seem to be separated by {names[mark]}, not {names[separator]}. {hints[mark]}"
    return None


class _Table:
    """The rows below a header, or below none where the columns are named."""

    def __init__(self, path: Path, separator: str, form: TableForm, needed: Sequence[str] | None) -> None:
        self.path = path
        self.separator = separator
        self.form = form
        self.needed = needed

    def rows(self, records: Records) -> Iterator[Row]:
        first = next((record for record in records if record[1]), None)
        if first is None:
            raise DataError(f"{self.path} is empty. Expected a line of column names and at least one row.")
        line, fields = first
        names = self.form.columns if isinstance(fields, str) else self.form.names_for(fields)
        if names is None:
            below = list(islice(records, LOOKED_AT_ROWS))
            header = self._checked_header(line, fields, below)
            rest = chain(below, records)
        else:
            header = list(names)
            rest = chain([first], records)
        kept = [place for place, name in enumerate(header) if name.strip()]
        width, is_whole, row = len(header), len(kept) == len(header), -1
        for line, fields in rest:
            if not fields:  # a blank line
                continue
            row += 1
            if isinstance(fields, str):
                yield BadRow(str(self.path), row, line, fields)
            elif len(fields) != width:
                yield BadRow(str(self.path), row, line, self._ragged(fields, header))
            elif is_whole:
                yield row, dict(zip(header, fields, strict=True))
            else:
                yield row, {header[place]: fields[place] for place in kept}
        if row < 0:
            raise DataError(f"{self.path} has column names ({', '.join(header)}) but no rows. Expected at least one.")

    def _checked_header(self, line: int, fields: list[str] | str, below: Sequence[tuple[int, Any]]) -> list[str]:
        where = f"{self.path}, line {line}"
        if isinstance(fields, str):
            raise DataError(f"{where}: {fields}")
        if len(fields) == 1 and (other := _other_separator(fields[0], self.separator)):
            raise DataError(f"{where}: {other}")
        if self._has_no_header(fields, [cells for _, cells in below if len(cells) == len(fields)]):
            raise DataError(f"{where}: {_no_header(fields, self.needed)}")
        if stray := [name for name in fields if name.strip() and name != name.strip()]:
            raise DataError(f"{where}: the column name {stray[0]!r} has blanks around it. Remove them.")
        named = [name for name in fields if name.strip()]
        if not named:
            raise DataError(f"{where}: none of the {len(fields)} columns has a name. Name each.")
        if twice := [name for name, count in Counter(named).items() if count > 1]:
            raise DataError(f"{where}: the column name {twice[0]!r} occurs twice. Rename one.")
        if len(named) < len(fields):
            places = [str(place) for place, name in enumerate(fields, start=1) if not name.strip()]
            columns = f"column {places[0]}" if len(places) == 1 else f"columns {', '.join(places)}"
            verb, left = ("has", "is") if len(places) == 1 else ("have", "are")
            say_once(f"{self.path}: {columns} of {len(fields)} {verb} no name and {left} left out.")
        return fields

    def _has_no_header(self, fields: Sequence[str], below: Sequence[list[str]]) -> bool:
        """Whether the first line is a row: none of its cells is a column that is needed, and it looks like one."""
        if self.needed is not None and any(name in fields for name in self.needed):
            return False
        if list(fields) == [str(place) for place in range(len(fields))]:
            return False  # pandas' names for columns that have none
        repeated = any(cell and cell == cells[place] for cells in below for place, cell in enumerate(fields))
        has_number = any(NUMBER.fullmatch(cell) for cell in fields)
        has_sentence = any(len(cell.split()) >= SENTENCE_WORDS or len(cell) >= SENTENCE_CHARACTERS for cell in fields)
        if self.needed is None:
            return (repeated or has_number) and has_sentence
        return repeated or has_number or has_sentence

    def _ragged(self, fields: list[str], header: Sequence[str]) -> str:
        named = "data.columns: " if self.form.columns else ""
        problem = f"expected {len(header)} fields ({named}{', '.join(header)}), found {len(fields)}."
        if len(fields) > len(header) and self.separator == ",":
            if not any(fields[len(header) :]):
                return f"{problem} The line ends in commas that the header lacks. Take them out."
            return f"{problem} Put texts that contain commas in quotes; a column of row numbers needs a name."
        if self.separator == "\t" and any('"' in field for field in fields):
            return f"{problem} If texts are in quotation marks as in CSV: data.quoting: csv."
        return problem


def _no_header(fields: Sequence[str], needed: Collection[str] | None) -> str:
    """needed: the columns that were looked for; the last ones are the label's and the id's."""
    shown = ", ".join(repr(cell if len(cell) <= 40 else f"{cell[:40]}...") for cell in fields)
    wanted = f"expected the columns {', '.join(map(repr, needed))}; " if needed else ""
    return (
        f"{wanted}found {shown}, which is a row: the file seems to have no header. Name its {len(fields)} columns in "
        f"their order, -s 'data.columns=[{', '.join(_suggested(fields))}]', or write the names in a first line."
    )


def _suggested(fields: Sequence[str]) -> list[str]:
    """Names to start from: the longest cell is likely the text, a number or the shortest one the label."""
    longest = max(range(len(fields)), key=lambda place: len(fields[place]))
    others = [place for place in range(len(fields)) if place != longest]
    numbers = [place for place in others if NUMBER.fullmatch(fields[place])]
    label = min(numbers or others, key=lambda place: len(fields[place]) or SENTENCE_CHARACTERS, default=None)
    names = {longest: "text", label: "label"}
    return [names.get(place, f"column_{place + 1}") for place in range(len(fields))]
