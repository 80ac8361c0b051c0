"""Rows of CSV and TSV files, taken literally: a text that says NA, None or 123 stays that text."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from finetune_cli.data.formats.file_kinds import opened
from finetune_cli.data.formats.header import MARKS, is_a_row, no_header, other_mark, other_separator
from finetune_cli.data.formats.lines import file_lines
from finetune_cli.data.formats.row import BadRow, Row, TableForm, say_once
from finetune_cli.data.formats.tabs import Records, plain_records, tab_records
from finetune_cli.errors import DataError

MAX_CELL_CHARACTERS = 64 * 2**20  # the csv module refuses cells above 128 KiB unless told otherwise
EXCEL_LINE = re.compile("sep=.?$", re.IGNORECASE)
NEVER_CLOSED = "unexpected end of data"  # what the csv module says at the end of a file
LOOKED_AT_ROWS = 100  # below a first line that may be no header


def read_table(path: Path, columns: Sequence[str] | None, form: TableForm, *, separator: str) -> Iterator[Row]:
    """Rows of a file; see `read_rows`. Whether one with tabs has quoting is seen in its first quotation marks."""
    with opened(path) as file:
        yield from table_rows(file_lines(file, str(path)), str(path), columns, form, separator=separator)


def table_rows(
    lines: Iterator[str | BadRow], name: str, columns: Sequence[str] | None, form: TableForm, *, separator: str
) -> Iterator[Row]:
    """The rows of a table's lines, of which none is read before it is needed. name: of the file, for messages."""
    if form.any_separator:
        separator, lines = _own_separator(lines, name, form, separator)
    if form.quoting == "none":
        records: Records = plain_records(lines, separator)
    elif separator == "\t" and form.quoting == "auto":
        num_columns = None if form.columns is None else len(form.columns)
        records = tab_records(lines, name, num_columns, partial(_csv_records, name=name, separator="\t", guessed=True))
    else:
        records = _csv_records(lines, 1, name=name, separator=separator)
    yield from _Table(name, separator, form, columns).rows(records)


def _own_separator(
    lines: Iterator[str | BadRow], name: str, form: TableForm, separator: str
) -> tuple[str, Iterator[str | BadRow]]:
    """The separator that a header has in place of the usual one, which is said, and the lines again."""
    first = next(lines, "")
    mark = None
    if isinstance(first, str):  # a header that lacks a column is named with the columns that it has
        mark = other_mark(first, separator, form.header_with) or other_mark(first, separator)
    if mark is not None:
        say_once(f"{name}: the columns are separated by {MARKS[mark]}, and are read so.")
    return mark or separator, chain([first] if first else [], lines)


def _csv_records(
    lines: Iterator[str | BadRow], first_line: int, *, name: str, separator: str, guessed: bool = False
) -> Records:
    """guessed: that quotation marks are a program's was seen in the file; nobody said it.

    A mark that is never closed spoils its own line alone: what csv has put into that field is read again.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))
    bad: list[BadRow] = []
    taken: list[str | BadRow] = []  # lines of the record that is being read
    header = next(lines, "")

    def reader_of(lines: Iterator[str | BadRow]) -> Any:
        return csv.reader(_noted(lines, taken, bad), strict=True, delimiter=separator)

    reader = reader_of(chain([header] if header else [], lines))
    while True:
        start = reader.line_num + first_line
        taken.clear()
        try:
            fields: list[str] | str = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            fields = _csv_problem(str(err), guessed=guessed)
            if start == first_line and isinstance(header, str) and (other := other_separator(header, separator, name)):
                fields = other
            elif NEVER_CLOSED in str(err):
                reader, first_line = reader_of(iter(taken[1:])), start + 1
                bad.clear()
        if bad:
            start, fields = bad[0].line or start, bad[0].problem
            bad.clear()
        yield start, fields


def _noted(lines: Iterator[str | BadRow], taken: list[str | BadRow], bad: list[BadRow]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        if isinstance(line, BadRow):
            bad.append(line)
            yield "\n"  # keeps the csv module's count of lines; a blank record, which the fault replaces
        else:
            yield line


def _csv_problem(error: str, *, guessed: bool) -> str:
    literal = " Where the marks belong to the texts: data.quoting: none." if guessed else ""
    if NEVER_CLOSED in error:
        return (
            "a quotation mark opens here and is never closed; the lines below are read without it. "
            'Double it inside a text ("") and put the text in quotes.' + literal
        )
    if "expected after" in error:
        return f'text after a closing quotation mark. Inside a quoted text, double each quotation mark ("").{literal}'
    return f"this is not a CSV row: {error}."


@dataclass(frozen=True)
class _Table:
    """The rows below a header, or below none where the columns are named."""

    name: str
    separator: str
    form: TableForm
    needed: Sequence[str] | None

    def rows(self, records: Records) -> Iterator[Row]:
        first = next((record for record in records if record[1]), None)
        if first is None:
            raise DataError(f"{self.name} is empty. Expected a line of column names and at least one row.")
        line, fields = first
        names = self.form.columns if isinstance(fields, str) else self.form.names_for(fields)
        if names is None:
            below = [] if self._has_needed(fields) else list(islice(records, LOOKED_AT_ROWS))
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
            if fields == header and width > 1:
                fields = "this row is the header again. Are several files in one? Take such lines out."
            if isinstance(fields, str):
                yield BadRow(self.name, row, line, fields)
            elif len(fields) != width:
                yield BadRow(self.name, row, line, self._ragged(fields, header))
            elif is_whole:
                yield row, dict(zip(header, fields, strict=True))
            else:
                yield row, {header[place]: fields[place] for place in kept}
        if row < 0:
            raise DataError(f"{self.name} has column names ({', '.join(header)}) but no rows. Expected at least one.")

    def _checked_header(self, line: int, fields: list[str] | str, below: Sequence[tuple[int, Any]]) -> list[str]:
        where = f"{self.name}, line {line}"
        if isinstance(fields, str):
            raise DataError(f"{where}: {fields}")
        if EXCEL_LINE.match(self.separator.join(fields)):
            raise DataError(f"{where}: found Excel's line about the separator, not a header. Take it out.")
        if len(fields) == 1 and (other := other_separator(fields[0], self.separator, self.name)):
            raise DataError(f"{where}: {other}")
        alike = [cells for _, cells in below if len(cells) == len(fields)]
        if not self._has_needed(fields) and is_a_row(fields, alike, is_needed=self.needed is not None):
            raise DataError(f"{where}: {no_header(fields, self.needed)}")
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
            say_once(f"{self.name}: {columns} of {len(fields)} {verb} no name and {left} left out.")
        return fields

    def _has_needed(self, fields: list[str] | str) -> bool:
        return isinstance(fields, list) and any(name in fields for name in self.needed or ())

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
