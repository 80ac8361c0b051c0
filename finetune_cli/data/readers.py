"""Rows of CSV, TSV, JSON Lines and Parquet files and of standard input, read as streams and taken literally.

Nothing is guessed: a text that says NA, None or 123 stays that text, and a row that does not fit is a `BadRow` with its
place, so that the caller decides whether to stop. Faults of a whole file (no header, not UTF-8 at all) raise DataError.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from finetune_cli.errors import DataError, first_line

BOM = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
MAX_CELL_CHARACTERS = 64 * 2**20  # the csv module refuses cells above 128 KiB unless told otherwise
PARQUET_BATCH_ROWS = 2048
STREAM_NAME = "standard input"

Values: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: where it is, what was expected and what was found.

    row: its number among the data rows, from 0; messages count from 1. line: the line of the file where it starts,
    from 1; None where it is not known.
    """

    file: str
    row: int
    line: int | None
    problem: str

    def __str__(self) -> str:
        place = f"row {self.row + 1}" if self.line is None else f"line {self.line}"
        return f"{self.file}, {place}: {self.problem}"


GoodRow: TypeAlias = tuple[int, Values]
Row: TypeAlias = "GoodRow | BadRow"


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a file in order: (row number from 0, values by column) or a BadRow; constant memory.

    columns: only these are needed; a format that can leave out the others (Parquet) does. Values of CSV and TSV are
    text, those of JSON Lines and Parquet keep their type. Blank lines are not rows.
    Raises DataError for a fault of the whole file.
    """
    if not path.is_file():
        what = "is a directory, not a file" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {what}. Expected a data file.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: cannot tell its format. Expected a name that ends in {', '.join(READERS)}.")
    rows = reader(path, columns)
    try:
        first = next(rows, None)
        if first is None:
            raise DataError(f"{path} has no rows. Expected at least one.")
        yield first
        yield from rows
    except OSError as err:
        raise DataError(f"{path} cannot be read: {err.strerror or err}.") from err


def good_rows(rows: Iterator[Row], *, at_most: int = 5) -> Iterator[GoodRow]:
    """The rows, strictly: bad ones raise DataError, the first few of them together."""
    bad: list[BadRow] = []
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
            if len(bad) == at_most:
                break
        elif not bad:
            yield row
    if bad:
        more = "\n(there may be more)" if len(bad) == at_most else ""
        raise DataError("\n".join(map(str, bad)) + more)


def read_stream(stream: BinaryIO, text_columns: Sequence[str], *, name: str = STREAM_NAME) -> Iterator[Row]:
    """Rows of standard input, or of a file of texts called `name`, one as soon as its line is there.

    JSON Lines when the first line that is not blank starts with `{`; otherwise each line is a text, or two texts with a
    tab between them when there are two text columns. There an empty line is an empty text: answers keep their lines.
    """
    lines = _decoded_lines(stream, name)
    blank = 0
    for first in lines:
        if isinstance(first, BadRow) or first.strip():
            break
        blank += 1
    else:
        raise DataError(f"{name} has no rows. Expected JSON Lines or one text per line.")
    if not isinstance(first, BadRow) and first.lstrip().startswith("{"):
        yield from _json_rows(chain([first], lines), name, first_line=blank + 1)
        return
    for row, line in enumerate(chain(repeat("", blank), [first], lines)):
        if isinstance(line, BadRow):
            yield BadRow(name, row, row + 1, line.problem)
            continue
        texts = line.rstrip("\r\n").split("\t") if len(text_columns) > 1 else [line.rstrip("\r\n")]
        if len(texts) != len(text_columns):
            problem = f"expected {len(text_columns)} texts with a tab between them, found {len(texts)}."
            yield BadRow(name, row, row + 1, problem)
        else:
            yield row, dict(zip(text_columns, texts, strict=True))


def _decoded_lines(stream: BinaryIO, name: str) -> Iterator[str | BadRow]:
    """Lines with their ends, without a byte order mark; a line that is not UTF-8 text is a BadRow."""
    offset = 0
    for number, raw in enumerate(stream, start=1):
        if number == 1:
            if raw.startswith(UTF16_MARKS):
                raise DataError(f"{name} is UTF-16 text. Save it as UTF-8.")
            offset, raw = (len(BOM), raw[len(BOM) :]) if raw.startswith(BOM) else (0, raw)
        try:
            text = raw.decode()
        except UnicodeDecodeError as err:
            found = f"found byte 0x{raw[err.start]:02x} at offset {offset + err.start}"
            yield BadRow(name, number - 1, number, f"expected UTF-8 text, {found}. Save the file as UTF-8.")
        else:
            if "\0" in text:
                yield BadRow(name, number - 1, number, "a NUL character, which no text has. Is this a text file?")
            else:
                yield text
        offset += len(raw)


def _read_json_lines(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    with path.open("rb") as file:
        yield from _json_rows(_decoded_lines(file, str(path)), str(path))


def _json_rows(lines: Iterator[str | BadRow], name: str, *, first_line: int = 1) -> Iterator[Row]:
    decode = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant).decode
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
        except UnicodeEncodeError:
            yield BadRow(name, row, number, "half of a surrogate pair (\\ud800 to \\udfff), which is not a character.")
        except json.JSONDecodeError as err:
            yield BadRow(
                name, row, number, f"expected one JSON object per line, found bad JSON: {err.msg} (column {err.colno})."
            )
        except (ValueError, RecursionError) as err:
            yield BadRow(name, row, number, str(err) if isinstance(err, ValueError) else "JSON nested too deeply.")
        else:
            yield (
                (row, value) if isinstance(value, dict) and value else BadRow(name, row, number, _not_an_object(value))
            )
            if row == 0:
                _refuse_columns(value, name)


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


def _refuse_columns(value: object, name: str) -> None:
    if isinstance(value, dict) and value and all(isinstance(item, list) for item in value.values()):
        raise DataError(
            f"{name}: expected one JSON object per line and row, found one object of lists (a column each). "
            f'Write rows instead: {{"{next(iter(value))}": ...}} on each line.'
        )


def _read_csv(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))
    with path.open("rb") as file:
        bad: list[BadRow] = []
        lines = _set_bad_lines_aside(_decoded_lines(file, str(path)), bad)
        reader = csv.reader(lines, strict=True)
        yield from _table_rows(path, _csv_records(reader, bad), separator=",")


def _set_bad_lines_aside(lines: Iterator[str | BadRow], bad: list[BadRow]) -> Iterator[str]:
    for line in lines:
        if isinstance(line, BadRow):
            bad.append(line)
            yield "\n"  # keeps the csv module's count of lines; a blank record, which the fault replaces
        else:
            yield line


def _csv_records(reader: Any, bad: list[BadRow]) -> Iterator[tuple[int, list[str] | str]]:
    """(line where it starts, fields), or (line, problem)."""
    while True:
        start = reader.line_num + 1
        try:
            fields: list[str] | str = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            fields = _csv_problem(str(err))
        if bad:
            start, fields = bad[0].line or start, bad[0].problem
            bad.clear()
        yield start, fields


def _csv_problem(error: str) -> str:
    if "unexpected end of data" in error:
        return (
            'a quotation mark opens here and is never closed. Double it inside a text ("") and put the text in quotes.'
        )
    if "expected after" in error:
        return 'text after a closing quotation mark. Inside a quoted text, double each quotation mark ("").'
    return f"this is not a CSV row: {error}."


def _read_tsv(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    """Without quoting: quotation marks are part of the text, as in GLUE's own files."""
    with path.open("rb") as file:
        records = (
            (number, line.problem if isinstance(line, BadRow) else _split_tabs(line))
            for number, line in enumerate(_decoded_lines(file, str(path)), start=1)
        )
        yield from _table_rows(path, records, separator="\t")


def _split_tabs(line: str) -> list[str]:
    line = line.rstrip("\r\n")
    return line.split("\t") if line else []


def _table_rows(path: Path, records: Iterator[tuple[int, list[str] | str]], *, separator: str) -> Iterator[Row]:
    header: list[str] | None = None
    row = -1
    for line, fields in records:
        if not fields:
            continue
        if header is None:
            header = _checked_header(path, line, fields, separator)
            continue
        row += 1
        if isinstance(fields, str):
            yield BadRow(str(path), row, line, fields)
        elif len(fields) != len(header):
            yield BadRow(str(path), row, line, _ragged(fields, header, separator))
        else:
            yield row, dict(zip(header, fields, strict=True))
    if header is None:
        raise DataError(f"{path} is empty. Expected a line of column names and at least one row.")
    if row < 0:
        raise DataError(f"{path} has column names ({', '.join(header)}) but no rows. Expected at least one.")


def _checked_header(path: Path, line: int, fields: list[str] | str, separator: str) -> list[str]:
    where = f"{path}, line {line}"
    if isinstance(fields, str):
        raise DataError(f"{where}: {fields}")
    other = next((mark for mark in ("\t", ";", ",") if mark != separator and mark in fields[0]), None)
    if len(fields) == 1 and other:
        names = {"\t": "tabs", ";": "semicolons", ",": "commas"}
        hint = {"\t": "Name it .tsv.", ";": "Save it with commas.", ",": "Name it .csv."}[other]
        raise DataError(f"{where}: the columns seem to be separated by {names[other]}, not {names[separator]}. {hint}")
    if stray := [name for name in fields if name != name.strip()]:
        raise DataError(f"{where}: the column name {stray[0]!r} has blanks around it. Remove them.")
    if not all(fields):
        raise DataError(f"{where}: column {fields.index('') + 1} of {len(fields)} has no name. Name every column.")
    if twice := [name for name, count in Counter(fields).items() if count > 1]:
        raise DataError(f"{where}: the column name {twice[0]!r} occurs twice. Rename one.")
    return fields


def _ragged(fields: list[str], header: list[str], separator: str) -> str:
    problem = f"expected {len(header)} fields ({', '.join(header)}), found {len(fields)}."
    if len(fields) > len(header) and separator == ",":
        return f"{problem} Put texts that contain commas in quotes; a column of row numbers needs a name."
    return problem


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            wanted = needed_columns(file.schema_arrow.names, columns)
            row = 0
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=wanted):
                yield from enumerate(batch.to_pylist(), start=row)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as err:
        raise DataError(f"{path} is not a Parquet file or is damaged: {first_line(err)}. Write it again.") from err


def needed_columns(present: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """Those of `columns` that are there; all when one is missing, so that a message can name what was found."""
    return [name for name in present if columns is None or name in columns or not set(columns) <= set(present)]


READERS: dict[str, Callable[[Path, Sequence[str] | None], Iterator[Row]]] = {
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
