"""Several labels a row: from lists of class names, or from columns with 0 and 1, to a row of 0 and 1 for each class.

As with single labels, rows get the code of their set while they stream by; once a split has been read, every code gets
its set. Memory grows with the number of different sets. S different sets, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune_cli.data.checks.findings import Tally
from finetune_cli.data.label_cells import split_names
from finetune_cli.data.labels import ClassLabels, NumberLabels
from finetune_cli.errors import DataError
from finetune_cli.records.preparation import row_list
from finetune_cli.tasks import KIND_SPECS, Kind

FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
UNLABELLED = (-1, "-1")

Column = str | tuple[str, ...]


def label_reader(kind: Kind, where: str, column: Column) -> ClassLabels | NumberLabels | LabelSets:
    """What reads the labels of one split. where: the split, for messages. column: several only for "multilabel"."""
    if KIND_SPECS[kind].several_labels:
        return LabelSets(where, column)
    assert isinstance(column, str), "the config's rules refuse a list of columns here"
    return (ClassLabels if KIND_SPECS[kind].has_classes else NumberLabels)(where, column)


def label_cell(values: Mapping[str, Any], column: Column) -> Any:
    """A row's value in the label column; in several columns, a list of their values."""
    return values.get(column) if isinstance(column, str) else [values.get(name) for name in column]


def set_numbers(sets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of 0 and 1 (N, C), equal ones by one number: its first row and how often it is there, and each row's number.

    Returns first rows (S,), numbers (N,), counts (S,), all int64. Rows are compared as packed bits, which is fast.
    """
    packed = np.packbits(np.asarray(sets, bool), axis=1)
    keys = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1])))[:, 0]
    _, firsts, numbers, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    return firsts, numbers.reshape(-1), counts


def named_label(value: np.ndarray, names: Sequence[str] | None) -> str | float | list[str]:
    """A row's label for people: its class name, the names of its classes, or in regression its number."""
    if names is None:
        return float(value)
    if np.ndim(value):
        return [name for name, has in zip(names, value, strict=True) if has]
    return names[int(value)]


def set_in_words(flags: np.ndarray, names: Sequence[str]) -> str:
    """`a, b`, or `no label`."""
    return ", ".join(name for name, has in zip(names, flags, strict=True) if has) or "no label"


class LabelSets:
    """The labels of one split of a multilabel task, read row by row: any number of classes each, also none.

    A null marks a row without labels, which only a whole test split may be; an empty cell of a table, or an empty list,
    says that none of the classes fits.
    """

    dtype = np.dtype(np.int64)  # of the codes

    def __init__(self, where: str, column: Column) -> None:
        self.where = where
        self.cells = _NameLists(where, column) if isinstance(column, str) else _FlagColumns(where, column)
        self.sets: list[frozenset[int]] = []
        self.counts_of_sets: list[int] = []
        self.num_rows = self.num_blank = 0
        self.missing = Tally()
        self._codes: dict[frozenset[int], int] = {}

    def add(self, row: int, value: Any) -> int:
        """The code of this row's set: its place in `sets`. Raises DataError for a value that is no set of labels."""
        self.num_rows += 1
        self.num_blank += value == ""
        members = self.cells.members(row, value)
        if members is None:
            self.missing.add(row)
            members = frozenset()
        code = self._codes.setdefault(members, len(self.sets))
        if code == len(self.sets):
            self.sets.append(members)
            self.counts_of_sets.append(0)
        self.counts_of_sets[code] += 1
        return code

    def names(self) -> tuple[str, ...]:
        """The class names that these rows show: in natural order, or in that of the columns."""
        return self.cells.names()

    def numbers(self, names: Sequence[str], *, may_be_unlabelled: bool) -> np.ndarray | None:
        """The set of each code, int8 (S, C) of 0 and 1; None when the split has no labels and may have none.

        Raises DataError for a class that is not in `names`, and for rows without labels.
        """
        if may_be_unlabelled and self.num_rows == self.missing.count + self.num_blank:
            return None
        if self.missing.count:
            rows = row_list(self.missing.rows, self.missing.count)
            raise self.cells.error(
                f"expected labels in each row, found null in {rows}. Label or remove them; a row to which no class "
                f"applies has an empty list."
            )
        places = self.cells.places(names)
        matrix = np.zeros((len(self.sets), len(names)), np.int8)
        for code, members in enumerate(self.sets):
            matrix[code, places[list(members)]] = 1
        return matrix

    def counts(self, numbers: np.ndarray, names: Sequence[str]) -> dict[str, int]:
        """Rows of each class, by name, in the order of the classes."""
        totals = np.array(self.counts_of_sets) @ numbers.astype(np.int64)
        return dict(zip(names, totals.tolist(), strict=True))

    def labels_per_row(self, numbers: np.ndarray) -> dict[str, int]:
        """How many rows have no label, one, two ...; keys are text, as JSON has them."""
        rows = np.bincount(numbers.sum(axis=1, dtype=np.int64), weights=self.counts_of_sets)
        return {str(size): int(count) for size, count in enumerate(rows) if count}


class _NameLists:
    """A column of lists of class names or numbers; in a table, texts such as `a|b` or `["a", "b"]`."""

    def __init__(self, where: str, column: str) -> None:
        self.classes = ClassLabels(where, column)
        self.error = self.classes.error

    def members(self, row: int, value: Any) -> frozenset[int] | None:
        """The codes of the classes; None for a null."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        listed = self._split(row, value) if isinstance(value, str) else value
        if not isinstance(listed, list):
            raise self.error(
                f"expected a list of class names, found {type(value).__name__} {value!r} in row {row + 1}."
            )
        for name in listed:
            if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
                raise self.error(f"expected a list of class names, found {name!r} in the list of row {row + 1}.")
        return frozenset([self.classes.add(row, name) for name in dict.fromkeys(listed)])

    def _split(self, row: int, text: str) -> Any:
        try:
            return split_names(text)
        except ValueError as err:
            raise self.error(
                f'expected class names such as a|b or ["a", "b"], found {text[:40]!r} in row {row + 1}.'
            ) from err

    def names(self) -> tuple[str, ...]:
        if not self.classes.values:
            raise self.error("no row has a label. Is data.label the right column?")
        return self.classes.names()

    def places(self, names: Sequence[str]) -> np.ndarray:
        """The class number of each code, int64."""
        numbers = self.classes.numbers(names, may_be_unlabelled=False)
        assert numbers is not None, "only may_be_unlabelled gives None"
        return numbers


class _FlagColumns:
    """A column for each class, with 1 in the rows that have it and 0 in the others."""

    def __init__(self, where: str, columns: tuple[str, ...]) -> None:
        self.where = where
        self.columns = columns

    def members(self, row: int, value: Sequence[Any]) -> frozenset[int] | None:
        """The numbers of the columns with a 1; None when all are null, empty or -1."""
        if all(_is_missing(cell) for cell in value):
            return None
        flags = [FLAGS.get(str(cell).lower()) for cell in value]
        if None in flags:
            place = flags.index(None)
            found = f"expected 0 or 1, found {value[place]!r} in row {row + 1}."
            raise DataError(f"{self.where}, column {self.columns[place]!r}: {found}")
        return frozenset([number for number, flag in enumerate(flags) if flag])

    def names(self) -> tuple[str, ...]:
        return self.columns

    def places(self, names: Sequence[str]) -> np.ndarray:
        """The class number of each column, int64. Raises DataError for a column that is no class."""
        if missing := [name for name in self.columns if name not in names]:
            raise self.error(f"{missing[0]!r} is none of the classes {', '.join(names)}.")
        return np.array([list(names).index(name) for name in self.columns], np.int64)

    def error(self, problem: str) -> DataError:
        return DataError(f"{self.where}, columns {', '.join(self.columns)}: {problem}")


def _is_missing(cell: Any) -> bool:
    return cell is None or cell == "" or cell in UNLABELLED or (isinstance(cell, float) and math.isnan(cell))
