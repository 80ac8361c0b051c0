"""What the first line of a table shows: the mark between its columns, and whether it is a header at all."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from pathlib import Path

MARKS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
TABLES = {".csv": ",", ".tsv": "\t"}  # the mark that a file's name says
NAME = re.compile(r"\w{1,40}")  # a column's, as most are
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
SENTENCE_WORDS, SENTENCE_CHARACTERS = 6, 60


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
    endings = [ending for ending, its_mark in TABLES.items() if its_mark == mark]
    hint = f"Name it {endings[0]}." if endings else "Save it with commas."
    if not endings and Path(where).is_file():
        hint += f" This makes a copy that can be read: finetune init {where}"
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


def is_a_row(fields: Sequence[str], below: Sequence[Sequence[str]], *, is_needed: bool) -> bool:
    """Whether a first line without any needed column looks like a row.

    below: the rows under it with as many cells. is_needed: some columns are known to be needed.
    """
    if list(fields) == [str(place) for place in range(len(fields))]:
        return False  # pandas' names for columns that have none
    repeated = any(cell and cell == cells[place] for cells in below for place, cell in enumerate(fields))
    has_number = any(NUMBER.fullmatch(cell) for cell in fields)
    has_sentence = any(len(cell.split()) >= SENTENCE_WORDS or len(cell) >= SENTENCE_CHARACTERS for cell in fields)
    if not is_needed:
        return (repeated or has_number) and has_sentence
    return repeated or has_number or has_sentence


def no_header(fields: Sequence[str], needed: Collection[str] | None) -> str:
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
