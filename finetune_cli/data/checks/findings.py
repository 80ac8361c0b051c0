"""What the data checks count, and the words that their findings share."""

from __future__ import annotations

from dataclasses import dataclass, field

ROWS_SHOWN = 5
EXCERPT_CHARACTERS = 60


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


def excerpt(text: str, start: int = 0) -> str:
    """A short piece of a text from around `start`, quoted, with all that a terminal would obey escaped."""
    first = max(0, start - EXCERPT_CHARACTERS // 3)
    piece = text[first : first + EXCERPT_CHARACTERS]
    return f"{'...' if first else ''}{piece!r}{'...' if first + EXCERPT_CHARACTERS < len(text) else ''}"


def rows_of(count: int, total: int, verb: str, verbs: str) -> str:
    """`1 of 9 rows is`, `3 of 9 rows are`: the start of a sentence about `count` rows."""
    return f"{count:,} of {total:,} rows {verb if count == 1 else verbs}"
