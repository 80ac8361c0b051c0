"""From the label column to class numbers, or to values in regression: what is accepted, and what is refused.

Labels are collected while the rows stream by, as codes of the distinct values met; once a split has been read, the few
distinct values are judged and every code gets its class number. So one pass is enough, and memory stays constant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finetune_cli.data.checks.findings import ROWS_SHOWN, Tally
from finetune_cli.data.formats.header import NUMBER
from finetune_cli.data.label_cells import UNLABELLED, WHOLE_NUMBER, class_name, is_nan
from finetune_cli.data.source_files import natural
from finetune_cli.errors import DataError, did_you_mean
from finetune_cli.records.preparation import row_list

MAX_DISTINCT = 10_000  # more are hardly classes; keeps memory constant when the wrong column is named
DIGITS = re.compile(r"\d+", re.ASCII)
UNLABELLED_ADVICE = "Label or remove them. To leave them out: -s data.unlabelled=drop"


@dataclass(slots=True)
class _Value:
    """A distinct value of the label column."""

    value: Any
    count: int = 0
    rows: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return class_name(self.value)

    @property
    def is_missing(self) -> bool:
        return self.value is None or self.value == ""

    @property
    def is_whole_number(self) -> bool:
        return not isinstance(self.value, bool) and bool(WHOLE_NUMBER.fullmatch(str(self.value)))


class _LabelColumn:
    """where: the split, for messages. column: the label column."""

    def __init__(self, where: str, column: str) -> None:
        self.where = where
        self.column = column

    def error(self, problem: str) -> DataError:
        """The error to raise, with the place in front."""
        return DataError(f"{self.where}, column {self.column!r}: {problem}")


class ClassLabels(_LabelColumn):
    """The label column of one split of a classification task, read row by row.

    declared: class names that come with the data, in the order of their numbers there, which may be another one than
    that of the classes asked for.
    """

    dtype = np.dtype(np.int64)

    def __init__(self, where: str, column: str, declared: Sequence[str] | None = None) -> None:
        super().__init__(where, column)
        self.declared = tuple(declared or ())
        self.values: list[_Value] = []
        self._codes: dict[tuple[type, Any], int] = {}

    def add(self, row: int, value: Any) -> int:
        """The code of this value: its place in `values`."""
        value = None if is_nan(value) else value
        key = (type(value), value if value.__hash__ else str(value))
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = self._new_code(row, value)
        entry = self.values[code]
        entry.count += 1
        if len(entry.rows) < ROWS_SHOWN:
            entry.rows.append(row)
        return code

    def _new_code(self, row: int, value: Any) -> int:
        if not isinstance(value, str | int | float | None):
            hint = " For several labels a row, set task: multilabel." if isinstance(value, list) else ""
            raise self.error(
                f"expected a class name or number, found {type(value).__name__} {value!r} in row {row + 1}.{hint}"
            )
        if len(self.values) == MAX_DISTINCT:
            raise self.error(
                f"more than {MAX_DISTINCT:,} different values, such as {value!r} in row {row + 1}. Is data.label the "
                f"right column? For numbers to predict, set task: regression."
            )
        self.values.append(_Value(value))
        return len(self.values) - 1

    def names(self) -> tuple[str, ...]:
        """The class names that these values show, in natural order: for the train split when none were given."""
        self._require_labels([entry for entry in self.values if entry.is_missing])
        self._require_one_kind()
        if negative := [entry for entry in self.values if entry.is_whole_number and entry.name.startswith("-")]:
            raise self.error(
                f"label {negative[0].value} in {_rows(negative)}; negative numbers mark rows without a label. "
                f"If it is a class of yours, name all classes in data.labels. To leave them out: "
                f"-s data.unlabelled=drop"
            )
        names = sorted({entry.name for entry in self.values}, key=lambda name: (natural(name), name))
        if len(names) == 1:
            raise self.error(f"one class only ({names[0]!r}) in all rows. A classifier needs at least two.")
        return tuple(names)

    def _require_one_kind(self) -> None:
        texts = [entry for entry in self.values if isinstance(entry.value, str)]
        bools = [entry for entry in self.values if isinstance(entry.value, bool)]
        if len(texts) == len(self.values):
            numbers = [entry for entry in texts if entry.is_whole_number]
            words = [entry for entry in texts if not DIGITS.fullmatch(entry.value) and not entry.is_whole_number]
            if numbers and words and all(NUMBER.fullmatch(entry.value) for entry in words):
                raise self._not_whole(words)
            groups = [numbers, words]  # digits with leading zeros (001) go with either: they are names
        else:
            numbers = [entry for entry in self.values if entry not in texts and entry not in bools]
            groups = [texts, bools, numbers]
            if part := [entry for entry in numbers if not entry.is_whole_number]:
                raise self._not_whole(part)
        if len(found := [group for group in groups if group]) > 1:
            shown = " and ".join(f"{group[0].value!r} ({_rows(group)})" for group in found)
            raise self.error(f"labels of different kinds: {shown}. Use one kind, or name the classes in data.labels.")

    def _not_whole(self, entries: list[_Value]) -> DataError:
        return self.error(
            f"label {entries[0].value!r} in {_rows(entries)} is not a whole number. "
            f"For values to predict, set task: regression."
        )

    def numbers(self, names: Sequence[str], *, may_be_unlabelled: bool) -> np.ndarray | None:
        """The class number of each code, int64; None when the split has no labels and may have none.

        A value belongs to the class of its name; where no class is named by a number, 0..K-1 are the classes' places.
        Raises DataError for an unknown label and for missing ones, with their rows.
        """
        missing = [
            entry for entry in self.values if entry.is_missing or (entry.name == UNLABELLED and UNLABELLED not in names)
        ]
        if missing and may_be_unlabelled and len(missing) == len(self.values):
            return None
        self._require_labels(missing)
        places = {name: place for place, name in enumerate(names)}
        if not any(WHOLE_NUMBER.fullmatch(name) for name in names):
            places |= {str(place): place for place in range(len(names))}
        numbers = [self._place(entry, places) for entry in self.values]
        if unknown := [entry for entry, number in zip(self.values, numbers, strict=True) if number is None]:
            if counted_from_one := self._counted_from_one(names):
                raise self.error(counted_from_one)
            more = f" ({len(unknown) - 1} more unknown labels, such as {unknown[1].value!r})" if unknown[1:] else ""
            raise self.error(f"unknown label {_described(unknown[0], names)}{more}")
        return np.array(numbers, dtype=self.dtype)

    def _counted_from_one(self, names: Sequence[str]) -> str | None:
        """What to say when the classes are numbered 1..K; None when they are not."""
        found = {entry.name for entry in self.values if entry.is_whole_number}
        last = len(names)
        if len(found) < len(self.values) or not {"1", str(last)} <= found <= set(map(str, range(1, last + 1))):
            return None
        listed = ", ".join(f'"{number}"' for number in range(1, last + 1)) if last <= 20 else '"1", "2", ...'
        return (
            f"the labels go from 1 to {last}, and class numbers go from 0 to {last - 1} in the order of data.labels. "
            f"Write the names into the rows, or subtract 1, or let the numbers be names: -s 'data.labels=[{listed}]'."
        )

    def _place(self, entry: _Value, places: dict[str, int]) -> int | None:
        value = entry.value
        if type(value) is int and 0 <= value < len(self.declared) and self.declared[value] in places:
            return places[self.declared[value]]
        if isinstance(value, bool) and str(value) not in places:
            return places.get(str(int(value)))
        return places.get(str(value), places.get(entry.name))

    def _require_labels(self, missing: list[_Value]) -> None:
        if not missing:
            return
        found = "-1, which marks a row without a label," if missing[0].name == UNLABELLED else "no label"
        if len(missing) == len(self.values):
            raise self.error(
                f"expected a label in each row, found {found} in {all_of(sum(entry.count for entry in missing))}."
            )
        raise self.error(f"expected a label in each row, found {found} in {_rows(missing)}. {UNLABELLED_ADVICE}")

    def counts(self, numbers: np.ndarray, names: Sequence[str]) -> dict[str, int]:
        """Rows of each class, by name, in the order of the classes."""
        totals = np.zeros(len(names), dtype=np.int64)
        np.add.at(totals, numbers, [entry.count for entry in self.values])
        return dict(zip(names, totals.tolist(), strict=True))


class NumberLabels(_LabelColumn):
    """The label column of one split of a regression task, read row by row."""

    dtype = np.dtype(np.float32)

    def __init__(self, where: str, column: str) -> None:
        super().__init__(where, column)
        self.num_rows = self.num_unlabelled = 0
        self.missing = Tally()

    def add(self, row: int, value: Any) -> float:
        """The value as a float; NaN for a missing one, which `check` judges once all rows are read."""
        self.num_rows += 1
        if value is None or value == "" or is_nan(value):
            self.missing.add(row)
            return math.nan
        try:
            number = float(value) if not isinstance(value, bool) and "_" not in str(value) else math.nan
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= float(np.finfo(self.dtype).max):
            raise self.error(f"expected a finite number, found {value!r} in row {row + 1}.")
        self.num_unlabelled += number == -1
        return number

    def check(self, *, may_be_unlabelled: bool) -> bool:
        """Whether the split has labels. Raises DataError when some rows, or all but without leave, have none."""
        if may_be_unlabelled and self.num_rows in (self.missing.count, self.num_unlabelled):
            return False
        if self.missing.count:
            rows = row_list(self.missing.rows, self.missing.count)
            raise self.error(f"expected a number in each row, found none in {rows}. {UNLABELLED_ADVICE}")
        return True


def all_of(count: int) -> str:
    return "the only row" if count == 1 else f"all {count} rows"


def _rows(entries: Sequence[_Value]) -> str:
    rows = sorted(row + 1 for entry in entries for row in entry.rows)[:ROWS_SHOWN]
    return row_list(rows, sum(entry.count for entry in entries))


def _described(entry: _Value, names: Sequence[str]) -> str:
    shown = ", ".join(names[:20]) + (f" ... ({len(names)} in all)" if len(names) > 20 else "")
    hint = did_you_mean(str(entry.value).strip(), names, shown=repr)
    return f"{entry.value!r} in {_rows([entry])}. The classes are: {shown}.{hint}"
