"""What the readers do not take as it stands, as rows that they take: made into JSON Lines, once and openly.

Tables of spreadsheets and older programs, JSON whose records hold records, and folders of text files by class.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat, zip_longest
from pathlib import Path
from typing import Any

from finetune_cli.data.formats.file_kinds import file_kind, require_data_file
from finetune_cli.data.formats.header import TABLES
from finetune_cli.data.formats.row import BadRow, Values, good_rows
from finetune_cli.data.formats.tables import MAX_CELL_CHARACTERS
from finetune_cli.data.readers import read_rows
from finetune_cli.data.survey.foreign import Writing, is_for_the_readers, writing_of
from finetune_cli.data.text_folders import folder_rows, unproven_encodings
from finetune_cli.errors import DataError
from finetune_cli.system.files import replacing

ROWS_LOOKED_AT = 200  # for records in records
WITH_COMMA = re.compile(r"[-+]?\d+,\d+")
MAYBE_WITH_COMMA = re.compile(r"[-+]?\d+(?:,\d+)?")
IN_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+")


@dataclass(frozen=True)
class Conversion:
    """How to write rows anew. described: what they are now. stem: of the new file. rows: starts a new pass over them.
    ask: what a person should look at."""

    described: str
    stem: str
    rows: Callable[[], Iterator[Values]]
    ask: str = ""

    def write(self, target: Path) -> int:
        """Write the rows, in constant memory; returns how many there are. Raises DataError where one does not fit."""
        count = 0
        with replacing(target) as file:
            for line in self._lines():
                file.write(line)
                count += 1
        return count

    def rows_in(self, target: Path) -> int | None:
        """How many rows a file has that was written so before; None when it holds anything else."""
        count = 0
        with target.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for there, line in zip_longest(file, self._lines()):
                if there != line:
                    return None
                count += 1
        return count

    def _lines(self) -> Iterator[str]:
        return (json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows())


def conversion_of(place: Path, encoding: str | None) -> Conversion | None:
    """How a file, or a folder of text files by class, becomes rows; None when the readers take it as it stands.

    encoding: given by the user. Raises DataError for a file that is no table of rows.
    """
    if place.is_dir():
        return _of_folders(place, encoding)
    writing = writing_of(place, encoding)
    if is_for_the_readers(place, writing):
        return _of_nested(place)
    if writing is None:
        require_data_file(place)
        raise DataError(f"{place}: cannot tell its format. Expected a table, JSON Lines or Parquet.")
    decimals = _columns_with_decimal_commas(place, writing)
    described = writing.described + (", decimal commas" if decimals else "")
    return Conversion(
        described,
        place.stem,
        lambda: _table_rows(place, writing, decimals),
        "" if writing.sure else _doubt(place.name, writing.encoding),
    )


def _doubt(name: str, encoding: str) -> str:
    return f"do accented letters look right? {name} was read as {encoding}; --encoding settles it"


def _of_folders(place: Path, encoding: str | None) -> Conversion:
    guessed = [] if encoding else unproven_encodings(place)
    return Conversion(
        "a folder for each class, a file for each text",
        place.name,
        lambda: folder_rows(place, encoding),
        _doubt(f"{len(guessed)} files", ", ".join(sorted(set(guessed)))) if guessed else "",
    )


def _of_nested(path: Path) -> Conversion | None:
    """Of typed files, whose values can be records themselves."""
    if file_kind(path)[0] in TABLES:
        return None
    if path.suffix.lower() == ".json" and (key := _key_of_records(path)) is not None:
        return Conversion(f"JSON with its rows under {key}", path.stem, lambda: map(_flat, _whole(path)[key]))
    first = [row[1] for row in islice(read_rows(path), ROWS_LOOKED_AT) if not isinstance(row, BadRow)]
    if not any(isinstance(value, dict) for row in first for value in row.values()):
        return None
    return Conversion("records in records", path.stem, lambda: (_flat(row) for _, row in good_rows(read_rows(path))))


def _key_of_records(path: Path) -> str | None:
    """The one key that holds a list of records in `{"version": 1, "data": [...]}`; None for any other file."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first, second = (line.strip() for line in islice(chain(file, repeat("")), 2))
    if not first.startswith("{") or (first.endswith("}") and second.startswith("{")):  # a list of rows, or JSON Lines
        return None
    try:
        whole = _whole(path)
    except ValueError:
        return None
    lists = [
        key
        for key, value in whole.items()
        if isinstance(value, list) and value and all(isinstance(record, dict) for record in value)
    ]
    return lists[0] if len(lists) == 1 else None


def _whole(path: Path) -> dict[str, Any]:
    """A file that is one object. Raises ValueError when it is none."""
    return dict(json.loads(path.read_text(encoding="utf-8-sig")))


def _flat(row: Values) -> Values:
    """`{"review": {"body": "..."}}` as `{"review.body": "..."}`."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": below for inner, below in _flat(value).items()}
        else:
            flat[name] = value
    return flat


def _table_rows(path: Path, writing: Writing, decimals: frozenset[str] = frozenset()) -> Iterator[Values]:
    """The cells stay texts, as they are in a table. decimals: columns whose commas become points."""
    with path.open(encoding=writing.encoding, newline="") as file:
        try:
            for row in _json_lines(file, path) if writing.separator is None else _records(file, path, writing):
                yield {**row, **{name: row[name].replace(",", ".") for name in decimals}} if decimals else row
        except UnicodeError as err:
            raise DataError(f"{path} is not {writing.encoding}: {err}. Name its encoding: --encoding.") from err


def _columns_with_decimal_commas(path: Path, writing: Writing) -> frozenset[str]:
    """The columns of numbers such as 1,5. `1,500` alone could be a thousand and a half, and stays as it is."""
    if writing.separator in (None, ","):
        return frozenset()
    able: set[str] | None = None
    proven: set[str] = set()
    for row in _table_rows(path, writing):
        able = {name for name in able or row if not row[name] or MAYBE_WITH_COMMA.fullmatch(row[name])}
        if not able:
            return frozenset()
        proven |= {name for name in able if WITH_COMMA.fullmatch(row[name]) and not IN_THOUSANDS.fullmatch(row[name])}
    return frozenset(proven & (able or set()))


def _json_lines(file: Iterator[str], path: Path) -> Iterator[Values]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            yield _flat(json.loads(line))
        except (ValueError, AttributeError) as err:
            raise DataError(f"{path}, line {number}: expected one JSON object per line: {err}.") from err


def _records(file: Iterator[str], path: Path, writing: Writing) -> Iterator[Values]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))
    reader = csv.reader(file, delimiter=writing.separator or ",", strict=True)
    names: list[str] | None = None
    try:
        for fields in reader:
            if not fields:
                continue
            if names is None:
                names = _names(fields, path) if writing.has_names else [f"column_{n + 1}" for n in range(len(fields))]
                if writing.has_names:
                    continue
            if len(fields) != len(names):
                raise DataError(
                    f"{path}, line {reader.line_num}: expected {len(names)} fields ({', '.join(names)}), found "
                    f"{len(fields)}. Put texts with separators in quotes."
                )
            yield dict(zip(names, fields, strict=True))
    except csv.Error as err:
        raise DataError(f"{path}, line {reader.line_num}: this is not a row of a table: {err}.") from err


def _names(fields: Sequence[str], path: Path) -> list[str]:
    """The column names without blanks around them; one without a name is called by its place."""
    names = [field.strip() or f"column_{place}" for place, field in enumerate(fields, start=1)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{path}: the column name {twice[0]!r} occurs twice. Rename one.")
    return names
