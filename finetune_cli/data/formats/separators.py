"""Which mark separates the columns of a table, as its first line shows."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from pathlib import Path

MARKS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
NAME = re.compile(r"\w{1,40}")  # a column's, as most are
ENDINGS = {",": ".csv", "\t": ".tsv"}


def split_header(line: str, mark: str) -> list[str]:
    """The cells of a first line; none where it is no line of a table."""
    try:
        return next(csv.reader([line], delimiter=mark, strict=True), [])
    except csv.Error:
        return []


def other_mark(line: str, separator: str, names: Collection[str] = ()) -> str | None:
    """The mark that separates the columns of a header in place of `separator`; None when there is none.

    names: columns that the header has to have.
    """
    for mark in MARKS:
        if mark == separator or mark not in line:
            continue
        fields = split_header(line, mark)
        if len(fields) > 1 and set(names) <= set(fields) and not any(separator in field for field in fields):
            return mark
    return None


def other_separator(line: str, separator: str, where: str) -> str | None:
    """What to say of a header whose columns are separated by another mark; None when they are not."""
    mark = other_mark(line, separator)
    if mark is None:
        return None
    copied = "Save it with commas."
    if Path(where).is_file():
        copied += f" This makes a copy that can be read: finetune init {where}"
    hint = f"Name it {ENDINGS[mark]}." if mark in ENDINGS else copied
    return f"the columns seem to be separated by {MARKS[mark]}, not {MARKS[separator]}. {hint}"


def table_mark(line: str, names: Collection[str]) -> str | None:
    """The mark that makes a line a header with all of these names among its columns; None when none does."""
    tables = ((mark, split_header(line.strip(), mark)) for mark in MARKS)
    return next((mark for mark, cells in tables if len(cells) > 1 and set(names) <= set(cells)), None)


def may_be_header(line: str, names: Collection[str]) -> bool:
    """Whether a line of text could be a header: the name of the one text column alone, or several names of columns."""
    if line.strip().strip('"') in names:
        return True
    marks = [mark for mark in MARKS if len(names) == 1 or mark != "\t"]  # of a pair a tab is between the texts
    return any(len(cells := split_header(line.strip(), mark)) > 1 and all(map(NAME.fullmatch, cells)) for mark in marks)
