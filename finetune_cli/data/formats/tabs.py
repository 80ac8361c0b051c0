"""Records of a file with tabs, which says nowhere whether its quotation marks are a program's or part of the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from finetune_cli.data.formats.quoting import reading_of, wraps_texts
from finetune_cli.data.formats.row import BadRow, say_once

LOOKED_AT_CHARACTERS = 2**20  # from the first quotation mark on

Lines = Iterator[str | BadRow]
Records = Iterator[tuple[int, list[str] | str]]  # (line where it starts, fields), or (line, problem)

LATE = (
    "quotation marks as a program puts them around texts, while those further up are taken as part of the texts. Set "
    "data.quoting: csv; or none, where all of them belong to the texts."
)


def plain_records(lines: Lines, separator: str, *, first_line: int = 1) -> Records:
    """Each line split at each separator, whatever quotation marks it has."""
    for number, line in enumerate(lines, start=first_line):
        yield number, line.problem if isinstance(line, BadRow) else _split(line, separator)


def _split(line: str, separator: str) -> list[str]:
    line = line.rstrip("\r\n")
    return line.split(separator) if line else []


def tab_records(lines: Lines, name: str, num_columns: int | None, as_csv: Callable[[Lines, int], Records]) -> Records:
    """Split at tabs up to the first quotation mark, where both readings are the same; then as the file shows.

    num_columns: where the columns are named; None: the first line has their names. as_csv: the records of some lines,
    given the number of the first.
    """
    has_header = num_columns is None
    for number, line in enumerate(lines, start=1):
        if isinstance(line, BadRow):
            yield number, line.problem
        elif '"' in line:
            break
        else:
            fields = _split(line, "\t")
            num_columns = num_columns or len(fields) or None
            yield number, fields
    else:
        return
    ahead = _look_ahead(line, lines)
    texts = [text for text in ahead if isinstance(text, str)]
    is_whole = sum(map(len, texts)) < LOOKED_AT_CHARACTERS
    is_first = has_header and num_columns is None
    reading = reading_of(texts, num_columns=num_columns, is_whole=is_whole, has_header=is_first)
    if reading == "csv":
        say_once(
            f"{name}: the quotation marks around texts are read as in CSV. Where they belong to the texts, set "
            f"data.quoting: none."
        )
        yield from as_csv(chain(ahead, lines), number)
        return
    if wraps_texts(texts):
        say_once(
            f"{name}: quotation marks are taken as part of the texts. If a program put them around the texts, set "
            f"data.quoting: csv."
        )
    yield from plain_records(iter(ahead), "\t", first_line=number)
    rest = lines if reading == "text" else _watched(lines, num_columns or line.count("\t") + 1)
    yield from plain_records(rest, "\t", first_line=number + len(ahead))


def _look_ahead(first: str, lines: Lines) -> list[str | BadRow]:
    ahead: list[str | BadRow] = [first]
    size = len(first)
    while size < LOOKED_AT_CHARACTERS and (line := next(lines, None)) is not None:
        ahead.append(line)
        size += len(line) if isinstance(line, str) else 0
    return ahead


def _watched(lines: Lines, num_columns: int) -> Lines:
    """The lines; a bad one where they show, too late, that quotation marks are a program's."""
    is_open = True
    for line in lines:
        if is_open and isinstance(line, str) and '"' in line:
            reading = reading_of([line], num_columns=num_columns, is_whole=True, has_header=False)
            if reading == "csv":
                yield BadRow("", 0, None, LATE)
                continue
            is_open = reading == "either"
        yield line
