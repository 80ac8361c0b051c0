"""The labels of a source as strata, each of which gives the same share to every part that is drawn.

Dimensions: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from finetune_cli.data.checks.repeats import NO_TEXT, folded_keys
from finetune_cli.data.formats.row import GoodRow, Values, good_rows
from finetune_cli.data.label_sets import Column, label_cell, label_reader
from finetune_cli.data.labels import ClassLabels
from finetune_cli.data.source_files import Source
from finetune_cli.errors import DataError, did_you_mean
from finetune_cli.tasks import KIND_SPECS, Kind

ROWS_AT_ONCE = 2048  # folding many texts together is much faster


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
    rows, codes, groups = [], [], []
    numbers: dict[object, int] = {}  # of the groups, in the order of their first rows: alike in every process
    all_rows = good_rows(source.open(columns))
    while block := list(islice(all_rows, ROWS_AT_ONCE)):
        keys: list[object] = _text_keys(block, text) if text and not group else []
        for row, values in block:
            rows.append(row)
            codes.append(labels.add(row, label_cell(values, label)) if stratify else 0)
            if group:
                keys.append(_group(values, source, row, group))
        groups += [numbers.setdefault(key, len(numbers)) for key in keys]
    if not rows:
        raise DataError(f"{source.where} has no rows. Expected at least one.")
    strata = np.array(codes, np.int32)
    if several:
        rare = np.bincount(strata) < least
        strata[rare[strata]] = len(rare)
    names = tuple(value.name for value in labels.values) if isinstance(labels, ClassLabels) else None
    return Strata(np.array(rows, np.int64), strata, names, np.array(groups, np.int64) if groups else None)


def _text_keys(block: Sequence[GoodRow], columns: Sequence[str]) -> list[object]:
    """Equal keys for rows with equal texts."""
    keys = folded_keys([[str(values.get(name)) for _, values in block] for name in columns])
    # Texts of nothing but punctuation are no repeats: each has its row for a key.
    return [(row,) if key == NO_TEXT else key for key, (row, _) in zip(keys, block, strict=True)]


def _group(values: Values, source: Source, row: int, column: str) -> object:
    """The value that names the group of a row. Raises DataError where there is none."""
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
    return value
