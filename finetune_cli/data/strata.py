"""The labels of a source as strata, each of which gives the same share to every part that is drawn.

Dimensions: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune_cli.data.checks.repeats import fold
from finetune_cli.data.formats.row import Values, good_rows
from finetune_cli.data.label_sets import Column, label_cell, label_reader
from finetune_cli.data.labels import ClassLabels
from finetune_cli.data.source_files import Source
from finetune_cli.errors import DataError, did_you_mean
from finetune_cli.tasks import KIND_SPECS, Kind

FOLDED_AT_ONCE = 2048


@dataclass(frozen=True)
class Strata:
    """rows: row numbers, int64 (N,). codes: the stratum of each, int32 (N,). names: of the classes, by code, where the
    strata are classes. groups: the group of each row, int64 (N,), where columns tell it."""

    rows: np.ndarray
    codes: np.ndarray
    names: tuple[str, ...] | None
    groups: np.ndarray | None


def read_strata(
    source: Source, *, label: Column, kind: Kind, least: float, group: str | None = None, text: Sequence[str] = ()
) -> Strata:
    """The strata of all rows: their classes; with several labels a row their sets; in regression one for all.

    least: sets of labels with fewer rows than that count as one together. group: a column; rows with the same value
    there are one group. text: columns; rows with the same texts there, as the check `overlap` compares them, are one.
    Raises DataError for labels that do not fit and a row without a group.
    """
    labels = label_reader(kind, source.where, label)
    stratify, several = KIND_SPECS[kind].has_classes, KIND_SPECS[kind].several_labels
    columns = [*([label] if isinstance(label, str) else label), *([group] if group else []), *text]
    numbers: dict[object, int] = {}
    entries = []
    keys = _TextKeys(text)
    for row, values in good_rows(source.open(columns)):
        code = labels.add(row, label_cell(values, label)) if stratify else 0
        entries.append((row, code, _group(values, numbers, source, row, group) if group else 0))
        keys.add(values)
    if not entries:
        raise DataError(f"{source.where} has no rows. Expected at least one.")
    table = np.array(entries, dtype=np.int64)
    codes = table[:, 1].astype(np.int32)
    if several:
        rare = np.bincount(codes) < least
        codes[rare[codes]] = len(rare)
    names = tuple(value.name for value in labels.values) if isinstance(labels, ClassLabels) else None
    return Strata(table[:, 0], codes, names, table[:, 2] if group else keys.groups())


class _TextKeys:
    """Equal keys for rows with equal texts; folded many at a time, which is much faster."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns
        self.waiting: list[Values] = []
        self.blocks: list[np.ndarray] = []
        self.num_rows = 0

    def add(self, values: Values) -> None:
        if self.columns:
            self.waiting.append(values)
            if len(self.waiting) == FOLDED_AT_ONCE:
                self._fold()

    def _fold(self) -> None:
        texts = zip(*(fold([str(row.get(name)) for row in self.waiting]) for name in self.columns), strict=True)
        places = range(self.num_rows, self.num_rows + len(self.waiting))
        # Texts of nothing but punctuation are no repeats: each has its place for a key.
        keys = [hash(pair) if any(pair) else hash((place,)) for place, pair in zip(places, texts, strict=True)]
        self.blocks.append(np.array(keys, np.int64))
        self.num_rows += len(self.waiting)
        self.waiting.clear()

    def groups(self) -> np.ndarray | None:
        """The group of each row, int64 (N,); None where no columns tell them."""
        if not self.columns:
            return None
        self._fold()
        return np.unique(np.concatenate(self.blocks), return_inverse=True)[1].reshape(-1)


def _group(values: Values, numbers: dict[object, int], source: Source, row: int, column: str) -> int:
    if column not in values:
        raise DataError(
            f"{source.where}: expected the column {column!r}; found {', '.join(map(repr, values))} in row {row + 1}. "
            f"Name yours in data.folds.group.{did_you_mean(column, values)}"
        )
    value = values[column]
    if value == "" or not isinstance(value, str | int | float):
        raise DataError(
            f"{source.where}: expected the group of each row in the column {column!r}, found {value!r} in row "
            f"{row + 1}. Give it a group of its own, or take data.folds.group out."
        )
    return numbers.setdefault(value, len(numbers))
