"""How a table is written that the readers refuse on purpose, because they would have to guess.

The readers take commas in .csv, tabs in .tsv, and UTF-8. What spreadsheets and older programs write besides
(semicolons, UTF-16, Windows-1252, no line of column names) is recognised here, and the guess is told to the user.
"""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass
from pathlib import Path

from finetune_cli.data.formats.file_kinds import file_kind
from finetune_cli.data.formats.header import TABLES
from finetune_cli.errors import DataError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LINES_ENDINGS = (".jsonl", ".ndjson", ".jsonlines")
TABLE_ENDINGS = (".csv", ".tsv", ".tab", ".txt", ".data", ".dat", "")
MARKS = (  # the longer ones first: UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NAMES = {"utf-8-sig": "UTF-8 with a mark", "cp1252": "windows-1252"}  # for people
HEAD_BYTES = 2**18
BLOCK_BYTES = 2**20
RECORDS_COMPARED = 200
CELL_OF_A_HEADER = 60  # characters; longer ones are texts


@dataclass(frozen=True)
class Writing:
    """How a file of text is written.

    encoding: a name that Python knows; "utf-8-sig" is UTF-8 with a mark. sure: whether the bytes prove it. separator:
    between the cells of a table; None for JSON Lines. has_names: whether the first record names the columns. is_tidy:
    lines end as the readers want them, and each name is there and without blanks around it.
    """

    encoding: str
    sure: bool
    separator: str | None
    has_names: bool = True
    is_tidy: bool = True

    @property
    def described(self) -> str:
        """`CSV with semicolons, windows-1252`."""
        form = "JSON Lines" if self.separator is None else f"a table with {SEPARATORS[self.separator]}"
        header = "" if self.has_names else ", no column names"
        header += "" if self.is_tidy else ", untidy names or ends of lines"
        return f"{form}{header}, {NAMES.get(self.encoding, self.encoding.upper())}"


def is_for_the_readers(path: Path, writing: Writing | None) -> bool:
    """Whether the readers take a file as it stands. writing: None for a form that is no plain text."""
    ending, compression = file_kind(path)
    if writing is None or compression or not ending:
        return bool(ending)
    as_needed = writing.has_names and writing.is_tidy and writing.separator == TABLES.get(ending)
    return as_needed and writing.encoding in ("utf-8", "utf-8-sig")


def writing_of(path: Path, encoding: str | None = None) -> Writing | None:
    """How a file of text is written; None for other forms (Parquet, JSON arrays, compressed files).

    encoding: given by the user. Raises DataError for what is no table of rows at all.
    """
    ending = path.suffix.lower()
    if ending not in (*TABLE_ENDINGS, *LINES_ENDINGS):
        return None
    sure = True
    if encoding is None:
        encoding, sure = encoding_of(path)
    head = _head(path, encoding)
    if not head.strip():
        raise DataError(f"{path} is empty. Expected rows with a text and a label in each.")
    if ending in LINES_ENDINGS or head.lstrip().startswith("{"):
        return Writing(encoding, sure, None)
    separator = _separator(head)
    has_names = _has_names(head, separator)
    is_tidy = "\n" in head or "\r" not in head
    if has_names:
        is_tidy &= all(name and name == name.strip() for name in _first_records(head, separator)[0])
    return Writing(encoding, sure, separator, has_names, is_tidy)


def encoding_of(path: Path) -> tuple[str, bool]:
    """The encoding of a whole file, and whether its bytes prove it."""
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
        for mark, name in MARKS:
            if start.startswith(mark):
                return name, True
        if b"\0" in start:  # Latin letters in UTF-16 have one zero byte each, in the low or the high half
            return ("utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"), False
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block := file.read(BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return _single_byte_encoding(path), False
    return "utf-8", True


def _single_byte_encoding(path: Path) -> str:
    """Windows-1252, or Latin-1 where a byte occurs that the former leaves out."""
    with path.open("rb") as file:
        unused = bytes([0x81, 0x8D, 0x8F, 0x90, 0x9D])
        while block := file.read(BLOCK_BYTES):
            if len(block.translate(None, unused)) < len(block):
                return "latin-1"
    return "cp1252"


def _head(path: Path, encoding: str) -> str:
    """The first lines, whole ones where the file is longer."""
    try:
        with path.open("rb") as file:
            data = file.read(HEAD_BYTES)
        text = codecs.getincrementaldecoder(encoding)().decode(data)
    except LookupError as err:
        raise DataError(f"--encoding {encoding}: no such encoding. Expected a name such as windows-1252.") from err
    except UnicodeError as err:
        raise DataError(f"{path} is not {encoding}: {err}. Name its encoding: --encoding.") from err
    return text if len(data) < HEAD_BYTES else text[: text.rfind("\n") + 1] or text


def _separator(head: str) -> str:
    """What splits the first records into the same number of cells most often; commas where nothing does."""

    def fit(separator: str) -> tuple[float, int]:
        counts = [len(record) for record in _first_records(head, separator)]
        return (sum(count == counts[0] for count in counts) / len(counts), counts[0]) if counts[0] > 1 else (0.0, 0)

    return max(SEPARATORS, key=fit)


def _first_records(head: str, separator: str) -> list[list[str]]:
    """A quoted cell may be cut off at the end of the head, so the last record counts for nothing but when alone."""
    records = []
    with_lines = csv.reader(io.StringIO(head, newline=""), delimiter=separator)
    try:
        for record in with_lines:
            if record:
                records.append(record)
            if len(records) > RECORDS_COMPARED:
                break
    except csv.Error:  # a stray quotation mark: what was read so far says enough
        pass
    return (records[:-1] if len(records) > 2 else records) or [[""]]


def _has_names(head: str, separator: str) -> bool:
    """Whether the first record names columns: no number above numbers, no long text, nothing that is below as well."""
    first, *rest = _first_records(head, separator)
    if not rest:
        return True
    below = [{record[place] for record in rest if place < len(record)} for place in range(len(first))]
    for cell, cells in zip(first, below, strict=True):
        if len(cell) > CELL_OF_A_HEADER or (cell and cell in cells):
            return False
        if _is_number(cell) and all(map(_is_number, cells)):
            return False
    return True


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
