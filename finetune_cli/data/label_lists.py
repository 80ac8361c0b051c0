"""The labels of one row that may have several: names, a vector of 0 and 1, or a column for each class. C classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune_cli.data.label_cells import FLAGS, all_missing, is_missing, is_nan, listed_in
from finetune_cli.data.labels import ClassLabels
from finetune_cli.errors import DataError

DIGITS = re.compile("[01]{2,}")


class Vector(tuple[int, ...]):
    """A list of 0 and 1 alone: a place for each class, or the classes 0 and 1, as the whole split shows."""


Members = frozenset[int] | Vector


class NameLists:
    """A column of lists of class names or numbers, or of vectors; in a table, texts such as `a|b` or `["a", "b"]`."""

    def __init__(self, where: str, column: str, declared: Sequence[str] | None) -> None:
        self.classes = ClassLabels(where, column, declared)
        self.error = self.classes.error

    def members(self, row: int, value: Any) -> Members | None:
        """The codes of the classes, or a vector; None for a null."""
        if value is None or is_nan(value):
            return None
        listed = self._split(row, value) if isinstance(value, str) else value
        if not isinstance(listed, list):
            columns = f" Or give each class a column: -s 'data.label=[{', '.join(value)}]'." if _is_flags(value) else ""
            raise self.error(
                f"expected a list of class names, found {type(value).__name__} {value!r} in row {row + 1}. Write the "
                f"names of the classes that the row has, [] for none.{columns}"
            )
        if all_missing(listed):
            return None
        if len(listed) > 1 and all(str(item).lower() in FLAGS for item in listed):
            return Vector(FLAGS[str(item).lower()] for item in listed)
        return self._codes(row, listed)

    def _codes(self, row: int, listed: list[Any]) -> frozenset[int]:
        for name in listed:
            if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
                raise self.error(
                    f"expected a list of class names, found {name!r} in the list of row {row + 1}. A list is one of "
                    f"names or numbers, or has 0 or 1 for each class."
                )
        if len(set(listed)) < len(listed):
            twice = next(name for place, name in enumerate(listed) if name in listed[:place])
            vectors = "; lists of 0 and 1 with a place for each class have to be of one length in all rows"
            is_name = isinstance(twice, str) and twice not in FLAGS
            raise self.error(
                f"the list of row {row + 1} has {twice!r} twice. Name each class once{'' if is_name else vectors}."
            )
        return frozenset([self.classes.add(row, name) for name in listed])

    def _split(self, row: int, text: str) -> Any:
        try:
            return listed_in(text)
        except ValueError as err:
            raise self.error(
                f'expected class names such as a|b or ["a", "b"], found {text[:40]!r} in row {row + 1}.'
            ) from err

    def resolved(self, sets: list[Members], rows: Sequence[int], names: Sequence[str] | None) -> list[Members]:
        """The sets, once the whole split is known: all vectors are vectors, or else lists of the classes 0 and 1.

        rows: where each set occurs first. names: the classes; None: not known, which vectors do not say.
        """
        lengths = {len(members) for members in sets if isinstance(members, Vector)}
        only_vectors = all(isinstance(members, Vector) or not members for members in sets)
        if lengths and only_vectors and len(lengths) == 1:
            length = lengths.pop()
            if names is None:
                raise self.error(
                    f"the lists have {length} values of 0 and 1 each, a place for each class. Name the classes in "
                    f"their order: -s 'data.labels=[{', '.join(f'name_{place + 1}' for place in range(length))}]'."
                )
            if length == len(names):
                return sets
            if any(len(set(members)) < length for members in sets):
                raise self.error(
                    f"the lists have {length} values of 0 and 1 each, a place for each class, and there are "
                    f"{len(names)} classes: {', '.join(names[:20])}. Name as many as the lists have places."
                )
        return [
            self._codes(row, [int(flag) for flag in members]) if isinstance(members, Vector) else members
            for members, row in zip(sets, rows, strict=True)
        ]

    def names(self) -> tuple[str, ...]:
        if not self.classes.values:
            raise self.error("no row has a label. Is data.label the right column?")
        self._refuse_digits()
        return self.classes.names()

    def _refuse_digits(self) -> None:
        """Raise DataError for vectors whose places nothing divides, such as 100 and 011; they would be classes."""
        cells = [entry.value for entry in self.classes.values]
        is_vector = all(isinstance(cell, str) and DIGITS.fullmatch(cell) for cell in cells)
        if is_vector and len(set(map(len, cells))) == 1 and any(cell.startswith("0") for cell in cells):
            raise self.error(
                f"found {cells[0]!r}, as if it were a vector of 0 and 1. Divide its places, {' '.join(cells[0])}, and "
                f"name the classes in their order in data.labels."
            )

    def places(self, names: Sequence[str]) -> np.ndarray:
        """The class number of each code, int64."""
        if not any(DIGITS.fullmatch(name) for name in names):
            self._refuse_digits()
        numbers = self.classes.numbers(names, may_be_unlabelled=False)
        assert numbers is not None, "only may_be_unlabelled gives None"
        return numbers


class FlagColumns:
    """A column for each class, with 1 in the rows that have it and 0 in the others."""

    def __init__(self, where: str, columns: tuple[str, ...]) -> None:
        self.where = where
        self.columns = columns

    def members(self, row: int, value: Sequence[Any]) -> frozenset[int] | None:
        """The numbers of the columns with a 1; None when all are null, empty or -1."""
        if all(map(is_missing, value)):
            return None
        flags = [FLAGS.get(str(cell).lower()) for cell in value]
        if None in flags:
            place = flags.index(None)
            found = f"expected 0 or 1, found {value[place]!r} in row {row + 1}."
            raise DataError(f"{self.where}, column {self.columns[place]!r}: {found}")
        return frozenset([number for number, flag in enumerate(flags) if flag])

    def resolved(self, sets: list[Members], rows: Sequence[int], names: Sequence[str] | None) -> list[Members]:
        return sets

    def names(self) -> tuple[str, ...]:
        return self.columns

    def places(self, names: Sequence[str]) -> np.ndarray:
        """The class number of each column, int64. Raises DataError for a column that is no class."""
        if missing := [name for name in self.columns if name not in names]:
            raise self.error(f"{missing[0]!r} is none of the classes {', '.join(names)}.")
        return np.array([list(names).index(name) for name in self.columns], np.int64)

    def error(self, problem: str) -> DataError:
        return DataError(f"{self.where}, columns {', '.join(self.columns)}: {problem}")


def _is_flags(value: Any) -> bool:
    return isinstance(value, dict) and all(str(flag).lower() in FLAGS for flag in value.values())
