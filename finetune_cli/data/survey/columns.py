"""What each column of a source holds, gathered in one pass over its rows; memory grows with their number hardly at all.

Rows come in blocks, so that most of the work is done by the loops inside Python's own functions.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from finetune_cli.data.formats.row import GoodRow, Values

BLOCK_ROWS = 1024
MAX_DISTINCT = 2000  # more different values are no classes
SAMPLE_ROWS = 2000  # kept whole, evenly spaced, to measure lengths on
FLAGS = {"0", "1", "0.0", "1.0", "true", "false"}
ID_NAME = re.compile(
    r"(?:.*[_\W])?(?:id|idx|index|uuid|guid|key|nr|no|row)\d*|.*[a-z](?:Id|ID)|unnamed.*|column_1", re.I
)


@dataclass
class Column:
    """One column.

    rows: of the whole source. missing: null, empty or absent. counts: how often each different value occurs, by its
    text; None when there are more than MAX_DISTINCT. is_text: every value present is a text. is_list: every one a list.
    is_number, is_whole: every one is, or is written as, a number or a whole one. characters: of all texts together.
    """

    name: str
    rows: int = 0
    missing: int = 0
    nulls: int = 0
    counts: Counter[str] | None = field(default_factory=Counter)
    is_text: bool = True
    is_list: bool = True
    is_number: bool = True
    is_whole: bool = True
    has_blanks: int = 0
    characters: int = 0
    _hashes: array[int] | None = None

    def __post_init__(self) -> None:
        if ID_NAME.fullmatch(self.name):
            self._hashes = array("q")

    @property
    def present(self) -> int:
        return self.rows - self.missing

    @property
    def mean_characters(self) -> float:
        return self.characters / max(self.present, 1)

    @property
    def is_flag(self) -> bool:
        return bool(self.counts) and {value.lower() for value in self.counts or ()} <= FLAGS

    @property
    def is_unique(self) -> bool:
        """Whether no value is there twice: known for few rows, and for columns that are called like an id."""
        if self.missing:
            return False
        if self.counts is not None:
            return len(self.counts) == self.rows
        return self._hashes is not None and len(np.unique(np.asarray(self._hashes))) == self.rows

    def add(self, values: list[Any]) -> None:
        """Some more rows' values, None where a row has none."""
        present = [value for value in values if value is not None and value != ""]
        self.rows += len(values)
        self.missing += len(values) - len(present)
        self.nulls += values.count(None)
        if not present:
            return
        kinds = set(map(type, present))
        self.is_text &= kinds == {str}
        self.is_list &= kinds == {list}
        if str in kinds:
            texts = present if self.is_text else [value for value in present if isinstance(value, str)]
            self.characters += sum(map(len, texts))
            self.has_blanks += sum(" " in text for text in texts)
        if self.is_number:
            self._look_at_numbers(present)
        if self._hashes is not None:
            self._hashes.extend(map(hash, map(str, present)))
        if self.counts is not None:
            self.counts.update(map(as_text, present) if kinds != {str} else present)
            if len(self.counts) > MAX_DISTINCT:
                self.counts = None

    def _look_at_numbers(self, present: list[Any]) -> None:
        try:
            numbers = [float(value) for value in present]
        except (TypeError, ValueError):
            self.is_number = self.is_whole = False
            return
        self.is_number = all(map(math.isfinite, numbers)) and bool not in set(map(type, present))
        self.is_whole &= self.is_number and all(map(float.is_integer, numbers))


@dataclass(frozen=True)
class ChosenColumns:
    """The columns that were chosen for something, why, and what a person may want otherwise, if anything."""

    names: tuple[str, ...]
    why: str
    question: str = ""


@dataclass(frozen=True)
class Survey:
    """The columns of a source by name, in its order, the number of its rows, and some whole rows from all over it."""

    columns: dict[str, Column]
    rows: int
    sample: list[Values]


def as_text(value: Any) -> str:
    """A value as it is counted: a text as it is, other things as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def survey(rows: Iterable[GoodRow]) -> Survey:
    """Read a source once. rows: as `good_rows` gives them."""
    columns: dict[str, Column] = {}
    sample: list[Values] = []
    stride, total = 1, 0
    for block in _blocks(row for _, row in rows):
        for name in {name: None for row in block for name in row}:
            if name not in columns:
                columns[name] = Column(name, rows=total, missing=total, nulls=total)
        for name, column in columns.items():
            column.add([row.get(name) for row in block])
        sample += block[-total % stride :: stride]
        total += len(block)
        if len(sample) > 2 * SAMPLE_ROWS:
            sample, stride = sample[::2], 2 * stride
    return Survey(columns, total, sample)


def _blocks(rows: Iterator[Values]) -> Iterator[list[Values]]:
    return iter(lambda: list(islice(rows, BLOCK_ROWS)), [])
