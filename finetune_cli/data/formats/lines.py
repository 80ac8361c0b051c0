"""Lines of text from bytes: UTF-8, with any of the three line ends, each bad line for itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from finetune_cli.data.formats.file_kinds import PARQUET, binary_form
from finetune_cli.data.formats.row import BadRow
from finetune_cli.errors import DataError

BOM = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
READ_BYTES = 1 << 16
COPY = "Or make a copy that can be read: finetune init"
LINES_OF_TEXT = ".txt"  # what init would take for a table


def file_lines(stream: BinaryIO, name: str) -> Iterator[str | BadRow]:
    """The lines of a file that can be looked into ahead; also where a lone carriage return ends them."""
    head = stream.peek(READ_BYTES)  # type: ignore[attr-defined]
    only_returns = b"\r" in head and b"\n" not in head
    return decoded_lines(_split_at_returns(stream) if only_returns else stream, name)


def _split_at_returns(stream: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(READ_BYTES):
        *lines, rest = (rest + block).split(b"\r")
        yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


def decoded_lines(stream: Iterable[bytes], name: str) -> Iterator[str | BadRow]:
    """Lines with their ends, without a byte order mark; a line that is not UTF-8 text is a BadRow."""
    offset = 0
    for number, raw in enumerate(stream, start=1):
        if number == 1:
            _require_text(raw, name)
            offset, raw = (len(BOM), raw[len(BOM) :]) if raw.startswith(BOM) else (0, raw)
        try:
            text = raw.decode()
        except UnicodeDecodeError as err:
            yield BadRow(name, number - 1, number, not_utf8(raw[err.start], offset + err.start))
        else:
            if "\0" in text:
                yield BadRow(name, number - 1, number, "a NUL character, which no text has. Is this a text file?")
            else:
                yield text
        offset += len(raw)


def _require_text(first: bytes, name: str) -> None:
    """Raise DataError for what is seen by its first line not to be UTF-8 text."""
    if first.startswith(UTF16_MARKS):
        if Path(name).suffix.lower() in ("", LINES_OF_TEXT):
            raise DataError(f"{name} is UTF-16 text. Save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW")
        raise DataError(f"{name} is UTF-16 text. Save it as UTF-8. {COPY} {name}")
    if first.startswith(PARQUET):
        raise DataError(f"{name} is Parquet. Name the file, with .parquet at the end of its name.")
    if form := binary_form(first):
        raise DataError(f"{name} is {form}")


def not_utf8(byte: int, offset: int) -> str:
    """What is said of a byte that no UTF-8 text has at that place."""
    return (
        f"expected UTF-8 text, found byte 0x{byte:02x} at offset {offset}. Save the file as UTF-8, as with: iconv -f "
        "WINDOWS-1252 -t UTF-8 FILE > NEW"
    )
