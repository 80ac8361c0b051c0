"""Rows of CSV, TSV, JSON and Parquet files and of standard input, read as streams and taken literally.

Nothing is guessed: a text that says NA, None or 123 stays that text, and a row that does not fit is a `BadRow` with its
place, so that the caller decides whether to stop. Faults of a whole file (no header, not UTF-8 at all) raise DataError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import BinaryIO

from finetune_cli.data.formats.file_kinds import file_kind, require_data_file
from finetune_cli.data.formats.header import MARKS, TABLES, may_be_header, table_mark
from finetune_cli.data.formats.json_rows import LineStream, json_line_rows, json_list_rows, read_json
from finetune_cli.data.formats.lines import decoded_lines
from finetune_cli.data.formats.parquet_rows import read_parquet
from finetune_cli.data.formats.row import AS_USUAL, BadRow, Row, TableForm, say_once
from finetune_cli.data.formats.tables import read_table, table_rows
from finetune_cli.errors import DataError

LIST_START = re.compile(r"\s*\[\s*(\{|$)")
STREAM_NAME = "standard input"
STREAM_FORMATS = ("jsonl", "csv", "tsv", "lines", "text")
TYPED = {".jsonl": read_json, ".ndjson": read_json, ".json": read_json, ".parquet": read_parquet}


def read_rows(path: Path, columns: Sequence[str] | None = None, form: TableForm = AS_USUAL) -> Iterator[Row]:
    """The rows of a file in order: (row number from 0, values by column) or a BadRow; constant memory.

    columns: only these are needed; a format that can leave out the others (Parquet) does. form: of CSV and TSV, for
    which alone it may be given. Values of CSV and TSV are text, those of JSON and Parquet keep their type. Blank lines
    are not rows. Raises DataError for a fault of the whole file.
    """
    require_data_file(path)
    suffix = file_kind(path)[0]
    if suffix in TABLES:
        rows = read_table(path, columns, form, separator=TABLES[suffix])
    else:
        refuse_form(path, form)
        rows = TYPED[suffix](path, columns)
    try:
        first = next(rows, None)
        if first is None:
            raise DataError(f"{path} has no rows. Expected at least one.")
        yield first
        yield from rows
    except OSError as err:
        raise DataError(f"{path} cannot be read: {err.strerror or err}.") from err


def refuse_form(where: Path | str, form: TableForm) -> None:
    """Raise DataError for settings of tables that would not act here."""
    if not form.is_default:
        key = "data.quoting" if form.columns is None else "data.columns"
        raise DataError(f"{key} is about CSV and TSV files, and {where} names its own columns. Take the setting out.")


def read_stream(
    stream: BinaryIO,
    text_columns: Sequence[str],
    *,
    name: str = STREAM_NAME,
    form: TableForm = AS_USUAL,
    stream_format: str | None = None,
) -> Iterator[Row]:
    """Rows of standard input, or of a file of texts called `name`, one as soon as its line is there.

    stream_format: of STREAM_FORMATS; None: JSON Lines when the first line that is not blank starts with `{`, one list
    of objects when it starts with `[{` or is `[` alone, a table, which is said, when it has the text columns among
    other cells; else lines of text. form: of a table.
    A line of text is one text, or two with a tab between them when there are two text columns. There an empty line is
    an empty text: answers keep their lines. "text": the whole of it is one text.
    """
    lines = decoded_lines(stream, name)
    blank = 0
    try:
        for first in lines:
            if isinstance(first, BadRow) or first.strip():
                break
            blank += 1
        else:
            raise DataError(
                f"{name} has no rows. Expected JSON Lines or one text per line. A table begins with its header."
            )
        start = "" if isinstance(first, BadRow) else first
        form_of_lines = stream_format or _stream_format(start, text_columns, name)
        rest = chain([first], lines)
        if form_of_lines == "jsonl" and LIST_START.match(start):
            yield from json_list_rows(LineStream(rest), name)
        elif form_of_lines == "jsonl":
            yield from json_line_rows(rest, name, first_line=blank + 1)
        elif form_of_lines == "text":
            yield from _whole_text(chain(repeat("\n", blank), rest), text_columns, name)
        elif form_of_lines == "lines":
            yield from _line_rows(chain(repeat("", blank), rest), text_columns, name)
        else:
            mark = TABLES.get(f".{form_of_lines}", form_of_lines)
            yield from table_rows(chain(repeat("\n", blank), rest), name, text_columns, form, separator=mark)
    except OSError as err:
        raise DataError(f"{name} cannot be read: {err.strerror or err}.") from err


def _stream_format(line: str, text_columns: Sequence[str], name: str) -> str:
    """What a first line that is not blank shows: "jsonl", "lines", or the mark that separates the columns of a table.

    A header that is not the one expected is read as a text, with a warning.
    """
    if line.lstrip().startswith("{") or LIST_START.match(line):
        return "jsonl"
    mark = table_mark(line, text_columns)
    if mark is not None:
        say_once(
            f"{name} is read as a table with {MARKS[mark]}: its first line names the text column. Where each line is a "
            f"text: --input-format lines."
        )
        return mark
    if may_be_header(line, text_columns):
        say_once(
            f"{name} is read as one text per line, also its first line, {line.strip()[:80]!r}, which may be the header "
            f"of a table. If it is: --input-format csv (or tsv), with the text in the column {text_columns[0]!r}."
        )
    return "lines"


def _whole_text(lines: Iterator[str | BadRow], text_columns: Sequence[str], name: str) -> Iterator[Row]:
    if len(text_columns) > 1:
        raise DataError(f"{name}: it is one text, and this model takes two, {' and '.join(text_columns)}.")
    parts = list(lines)
    bad = next((part for part in parts if isinstance(part, BadRow)), None)
    yield bad or (0, {text_columns[0]: "".join(map(str, parts)).strip()})


def _line_rows(lines: Iterator[str | BadRow], text_columns: Sequence[str], name: str) -> Iterator[Row]:
    for row, line in enumerate(lines):
        if isinstance(line, BadRow):
            yield BadRow(name, row, row + 1, line.problem)
            continue
        texts = line.rstrip("\r\n").split("\t") if len(text_columns) > 1 else [line.rstrip("\r\n")]
        if len(texts) != len(text_columns):
            problem = f"expected {len(text_columns)} texts with a tab between them, found {len(texts)}."
            yield BadRow(name, row, row + 1, problem)
        else:
            yield row, dict(zip(text_columns, texts, strict=True))
