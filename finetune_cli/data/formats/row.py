"""A row as the readers give it: its number, its values and its id, or what is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from finetune_cli.errors import DataError

logger = logging.getLogger("finetune_cli.data.readers")

BAD_ROWS_SHOWN = 5
USUAL_ID_COLUMNS = ("id", "idx")  # where data.id names none; idx is GLUE's own row number

Values: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: where it is, what was expected and what was found.

    row: its number among the data rows, from 0; messages count from 1. line: the line of the file where it starts,
    from 1; None where it is not known. values: its columns, where those could be read.
    """

    file: str
    row: int
    line: int | None
    problem: str
    values: Values | None = None

    def __str__(self) -> str:
        place = f"row {self.row + 1}" if self.line is None else f"line {self.line}"
        return f"{self.file}, {place}: {self.problem}"


GoodRow: TypeAlias = tuple[int, Values]
Row: TypeAlias = "GoodRow | BadRow"


def good_rows(rows: Iterator[Row]) -> Iterator[GoodRow]:
    """The rows, strictly: bad ones raise DataError, the first few of them together."""
    bad: list[BadRow] = []
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
            if len(bad) == BAD_ROWS_SHOWN:
                break
        elif not bad:
            yield row
    if bad:
        more = "\n(there may be more)" if len(bad) == BAD_ROWS_SHOWN else ""
        raise DataError("\n".join(map(str, bad)) + more)


def id_columns(named: str | None) -> tuple[str, ...]:
    """The columns that may hold the id, the first choice first. named: data.id."""
    return USUAL_ID_COLUMNS if named is None else (named,)


def row_id(row: int, values: Values, named: str | None) -> Any:
    """The value in the column that data.id names; where it names none in `id`, else `idx`; else `row`, from 0.

    A cell that is no id is passed over. Where data.id names a column that the rows have, `checked_rows` refuses such a
    cell before; where they lack it, as texts for `predict` may, the numbers are what is left.
    """
    cells = (values.get(column) for column in id_columns(named))
    return next((cell for cell in cells if is_id(cell)), row)


def is_id(cell: object) -> bool:
    """Whether a cell can name a row: a text that is not empty, or a whole number."""
    return isinstance(cell, str | int) and not isinstance(cell, bool) and cell != ""


@dataclass(frozen=True)
class TableForm:
    """What a table does not say of itself.

    columns: the names of the columns of a file without a header; None: its first line has them. quoting: "csv" reads
    quotation marks as CSV does, "none" takes them as text, "auto" does the first in CSV and looks at the file in TSV.
    header_with: a first line that has all of these is a header, although columns are named. may_lack: of `columns`,
    those that a file of rows to label does not have. any_separator: a header may show another separator than the name.
    """

    columns: tuple[str, ...] | None = None
    quoting: str = "auto"
    header_with: tuple[str, ...] = ()
    may_lack: tuple[str, ...] = ()
    any_separator: bool = False

    def names_for(self, first: Sequence[str]) -> tuple[str, ...] | None:
        """The names of a file's columns, given its first line; None where that line has them."""
        if self.columns is None or tuple(first) == self.columns:
            return None
        if self.header_with and set(self.header_with) <= set(first):
            return None
        fewer = tuple(name for name in self.columns if name not in self.may_lack)
        return fewer if len(first) == len(fewer) else self.columns

    @property
    def is_default(self) -> bool:
        return self.columns is None and self.quoting == "auto"


AS_USUAL = TableForm()
OF_OTHERS = TableForm(any_separator=True)  # a file that no config describes


@cache
def say_once(message: str) -> None:
    """Warn of something about a file, which is read several times, once in this process."""
    logger.warning("%s", message)
