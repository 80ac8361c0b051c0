"""What the data checks found: stored with the prepared data, judged by the levels of `data.checks` at each use.

Row numbers in messages count from 1, as a reader counts them; the header of a table is no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ROWS_SHOWN = 5
EXCERPT_CHARACTERS = 60


@dataclass(frozen=True)
class Finding:
    """One fault of one split.

    check: its name in data.checks. where: file or source. count: rows concerned. rows: the first few of them, from 1.
    problem: a sentence with the count. example: one case, escaped; None where there is nothing to show.
    """

    check: str
    split: str
    where: str
    count: int
    rows: Sequence[int]
    problem: str
    example: str | None
    advice: str

    @property
    def line(self) -> str:
        """All of it in short, for a log."""
        rows = f" ({row_list(self.rows, self.count)})" if self.rows else ""
        return f"{self.where}: {self.problem}{rows} [data.checks.{self.check}]"

    @property
    def paragraph(self) -> list[str]:
        """The same at length: what, where, an example, what to do."""
        lines = [f"{self.check}, {self.where}: {self.problem}"]
        if self.rows:
            lines.append(f"  {row_list(self.rows, self.count)}")
        if self.example:
            lines.append(f"  such as {self.example}")
        return [*lines, f"  {self.advice}"]


@dataclass
class Tally:
    """Rows with one fault, counted as they stream by; the first few are kept."""

    count: int = 0
    rows: list[int] = field(default_factory=list)
    example: str | None = None

    def add(self, row: int, example: str | None = None) -> None:
        """row: from 0, as the readers count."""
        if not self.count:
            self.example = example
        self.count += 1
        if len(self.rows) < ROWS_SHOWN:
            self.rows.append(row + 1)


def row_list(rows: Sequence[int], total: int) -> str:
    """`row 3`, `rows 3, 4` or `rows 3, 4, 5, 6, 7 ... (9 in all)`. rows: the first few of `total`, from 1."""
    listed = ", ".join(map(str, rows))
    if total > len(rows):
        return f"rows {listed} ... ({total:,} in all)"
    return f"row {listed}" if total == 1 else f"rows {listed}"


def excerpt(text: str, start: int = 0) -> str:
    """A short piece of a text from around `start`, quoted, with all that a terminal would obey escaped."""
    first = max(0, start - EXCERPT_CHARACTERS // 3)
    piece = text[first : first + EXCERPT_CHARACTERS]
    return f"{'...' if first else ''}{piece!r}{'...' if first + EXCERPT_CHARACTERS < len(text) else ''}"


def rows_of(count: int, total: int, verb: str, verbs: str) -> str:
    """`1 of 9 rows is`, `3 of 9 rows are`: the start of a sentence about `count` rows."""
    return f"{count:,} of {total:,} rows {verb if count == 1 else verbs}"


def judged(stored: Iterable[Mapping[str, Any]], levels: Mapping[str, str]) -> dict[str, list[Finding]]:
    """The stored findings by the level that the config gives their check: error, warn, ignore."""
    by_level: dict[str, list[Finding]] = {"error": [], "warn": [], "ignore": []}
    for entry in stored:
        by_level[levels[entry["check"]]].append(Finding(**entry))
    return by_level
