"""Several labels a row: from lists of class names, or from columns with 0 and 1, to a row of 0 and 1 for each class.

As with single labels, rows get the code of their set while they stream by; once a split has been read, every code gets
its set. Memory grows with the number of different sets. S different sets, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune_cli.data.checks.findings import Tally
from finetune_cli.data.label_cells import UNLABELLED, all_missing, class_name, is_missing, is_nan
from finetune_cli.data.label_lists import FlagColumns, Members, NameLists, Vector
from finetune_cli.data.labels import ClassLabels, NumberLabels
from finetune_cli.records.preparation import row_list
from finetune_cli.tasks import KIND_SPECS, Kind

Column = str | tuple[str, ...]


def label_reader(
    kind: Kind, where: str, column: Column, declared: Sequence[str] | None = None
) -> ClassLabels | NumberLabels | LabelSets:
    """What reads the labels of one split. where: the split, for messages. column: several only for "multilabel".
    declared: class names that come with the data, in the order of their numbers there."""
    if KIND_SPECS[kind].several_labels:
        return LabelSets(where, column, declared)
    assert isinstance(column, str), "the config's rules refuse a list of columns here"
    return ClassLabels(where, column, declared) if KIND_SPECS[kind].has_classes else NumberLabels(where, column)


def is_unlabelled(value: Any, *, kind: Kind, column: Column, names: Sequence[str] | None) -> bool:
    """Whether a row's label cell says that it has none. names: the classes, where the config has them: -1 may be one.

    Of several labels a row an empty list or cell says that no class fits, which is a label.
    """
    if KIND_SPECS[kind].several_labels:
        if isinstance(column, str):
            return value is None or is_nan(value) or (isinstance(value, list) and all_missing(value))
        return all(map(is_missing, value))
    if value is None or value == "" or is_nan(value):
        return True
    if not KIND_SPECS[kind].has_classes or isinstance(value, bool):
        return False
    return class_name(value) == UNLABELLED and UNLABELLED not in (names or ())


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
    says that none of the classes fits. Lists of 0 and 1 are read as vectors, a place for each class, when all are as
    long as there are classes; until all rows are read they are kept as they are.
    """

    dtype = np.dtype(np.int64)  # of the codes

    def __init__(self, where: str, column: Column, declared: Sequence[str] | None = None) -> None:
        self.where = where
        self.cells = NameLists(where, column, declared) if isinstance(column, str) else FlagColumns(where, column)
        self.sets: list[Members] = []
        self.counts_of_sets: list[int] = []
        self.first_rows: list[int] = []
        self.num_rows = self.num_blank = 0
        self.missing = Tally()
        self._codes: dict[Members, int] = {}

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
            self.first_rows.append(row)
        self.counts_of_sets[code] += 1
        return code

    def names(self) -> tuple[str, ...]:
        """The class names that these rows show: in natural order, or in that of the columns."""
        self.sets = self.cells.resolved(self.sets, self.first_rows, None)
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
                f"applies has an empty list. To leave them out: -s data.unlabelled=drop"
            )
        self.sets = self.cells.resolved(self.sets, self.first_rows, names)
        places = self.cells.places(names)
        matrix = np.zeros((len(self.sets), len(names)), np.int8)
        for code, members in enumerate(self.sets):
            if isinstance(members, Vector):
                matrix[code] = members
            else:
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
