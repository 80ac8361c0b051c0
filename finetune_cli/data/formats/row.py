"""A row as the readers give it: its number and values, or what is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

logger = logging.getLogger("finetune_cli.data.readers")

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
