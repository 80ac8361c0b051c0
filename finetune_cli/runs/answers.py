"""What a model answered on one split: a predictions file that `finetune evaluate` wrote, as arrays.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from finetune_cli.config.types import is_number
from finetune_cli.errors import DataError
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import Array, TaskKind
from finetune_cli.evaluation.scored_rows import ScoredRows, scored_rows
from finetune_cli.tasks import Kind


@dataclass(frozen=True)
class Answers:
    """classes: names in the order of their numbers; None in regression.

    labels, predictions: class numbers int64 (N,); several labels a row: bool (N, C); regression: float64 (N,).
    probabilities: float64 (N, C); None in regression. is_partial: of many classes, the likeliest of each row alone have
    one, and the others 0.
    """

    ids: list[Any]
    classes: tuple[str, ...] | None
    labels: Array
    predictions: Array
    probabilities: Array | None
    _: KW_ONLY
    is_partial: bool = False

    @property
    def kind(self) -> Kind:
        if self.classes is None:
            return "regression"
        return "multilabel" if self.labels.ndim == 2 else "classification"

    @property
    def task(self) -> TaskKind:
        return KINDS[self.kind]

    def correct(self) -> NDArray[np.bool_]:
        """bool (N,): the class is right; with several labels a row, all of them are."""
        return self.task.right(self.labels, self.predictions)

    @property
    def scores(self) -> Array:
        """The probabilities; in regression the numbers."""
        return self.predictions if self.probabilities is None else self.probabilities

    @property
    def rows(self) -> ScoredRows:
        """What the metrics take. A predicted class counts as it was given, also where it is not the likeliest one."""
        return scored_rows(self.labels, self.scores, self.kind, self.predictions)

    def label_of(self, row: int) -> str:
        return self.task.in_words(self.labels[row], self.classes or ())

    def prediction_of(self, row: int) -> str:
        return self.task.in_words(self.predictions[row], self.classes or ())


AnyAnswers = TypeVar("AnyAnswers", bound=Answers)


def in_order_of(first: Answers, other: AnyAnswers) -> AnyAnswers:
    """`other` with its rows and classes in the order of `first`; both are about the same rows and classes."""
    position = {row_id: row for row, row_id in enumerate(other.ids)}
    order = np.array([position[row_id] for row_id in first.ids])
    labels, predictions = other.labels[order], other.predictions[order]
    probabilities = None if other.probabilities is None else other.probabilities[order]
    if first.classes is not None and other.classes is not None and first.classes != other.classes:
        column = [other.classes.index(name) for name in first.classes]
        probabilities = None if probabilities is None else probabilities[:, column]
        if labels.ndim == 2:
            labels, predictions = labels[:, column], predictions[:, column]
        else:
            number = np.argsort(column)
            labels, predictions = number[labels], number[predictions]
    return replace(
        other, ids=first.ids, classes=first.classes, labels=labels, predictions=predictions, probabilities=probabilities
    )


def read_answers(file: Path) -> Answers:
    """The rows of a predictions file. Raises DataError for one that `finetune evaluate` did not write."""
    ids, labels, predictions, probabilities = [], [], [], []
    first: Any = None
    number_of: dict[str, int] = {}  # in the order in which the classes are met
    for number, row in _rows(file):
        first = first or row
        if problem := _row_problem(row, first):
            raise DataError(f"{file}:{number}: {problem}")
        ids.append(row["id"])
        labels.append(row["label"])
        predictions.append(row["prediction"])
        if isinstance(row["label"], str | list):
            of_row = row["probabilities"]
            numbers = np.array([number_of.setdefault(name, len(number_of)) for name in of_row], np.int64)
            probabilities.append((numbers, np.array(list(of_row.values()), float)))
    if not ids:
        raise DataError(f"{file} has no rows.")
    if not probabilities:
        return Answers(ids, None, np.array(labels, float), np.array(predictions, float), None)
    is_partial = "rest" in first
    classes = _all_classes(file, number_of) if is_partial else tuple(number_of)
    matrix = np.zeros((len(ids), len(classes)))
    column = {name: place for place, name in enumerate(classes)}
    columns = np.array([column[name] for name in number_of])
    for place, (numbers, values) in enumerate(probabilities):
        matrix[place, columns[numbers]] = values
    return Answers(
        ids, classes, _as_numbers(labels, classes), _as_numbers(predictions, classes), matrix, is_partial=is_partial
    )


def _all_classes(file: Path, met: Iterable[str]) -> tuple[str, ...]:
    """The classes of the scores beside a predictions file, in their order, and those that only its rows name."""
    beside = file.with_name("metrics.json")
    try:
        others = [entry["label"] for entry in json.loads(beside.read_text(encoding="utf-8"))["per_class"]]
    except (OSError, ValueError, KeyError, TypeError):
        others = []
    return tuple(dict.fromkeys([*others, *met]))


def _as_numbers(answers: list[Any], classes: tuple[str, ...]) -> Array:
    """Class names as int64 (N,), lists of class names as bool (N, C)."""
    number = {name: place for place, name in enumerate(classes)}
    if isinstance(answers[0], str):
        return np.array([number[name] for name in answers])
    matrix = np.zeros((len(answers), len(classes)), bool)
    for row, names in enumerate(answers):
        matrix[row, [number[name] for name in names]] = True
    return matrix


def _rows(file: Path) -> Iterator[tuple[int, Any]]:
    """(line, its JSON value, None where it has none) for each line that is not blank."""
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                yield number, row
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"{file}: cannot be read as JSON Lines ({getattr(err, 'strerror', None) or err}).") from err


def _row_problem(row: Any, first: Any) -> str | None:
    """Why a row cannot be used; `first` is the row whose form all have."""
    if not isinstance(row, dict):
        return "not a JSON object. Expected the predictions.jsonl that `finetune evaluate` writes."
    missing = [key for key in ("id", "label", "prediction") if row.get(key) is None]
    if missing:
        return (
            f"no {' and no '.join(missing)}. Expected the predictions.jsonl that `finetune evaluate` writes "
            "(`finetune predict` knows no labels)."
        )
    if not isinstance(row["id"], str | int | float):
        return f"the id is {row['id']!r}; expected text or a number."
    if isinstance(first["label"], str | list):
        return _class_problem(row, first)
    if not all(is_number(row[key]) for key in ("label", "prediction")):
        return f"label {row['label']!r} and prediction {row['prediction']!r}; expected class names, or numbers."
    return None


def _class_problem(row: dict[str, Any], first: dict[str, Any]) -> str | None:
    probabilities, classes = row.get("probabilities"), first.get("probabilities")
    is_partial = "rest" in row and "rest" in first
    if (
        not isinstance(probabilities, dict)
        or not isinstance(classes, dict)
        or not (is_partial or probabilities.keys() == classes.keys())
    ):
        expected = f" of {', '.join(classes)}" if isinstance(classes, dict) else ""
        return f"expected the probabilities{expected}, as `finetune evaluate` writes them."
    if not all(map(is_number, probabilities.values())):
        return "a probability is not a number."
    several = isinstance(first["label"], list)
    for key in ("label", "prediction"):
        names = row[key] if several and isinstance(row[key], list) else [row[key]]
        if several != isinstance(row[key], list) or not all(isinstance(name, str) for name in names):
            return f"{key} {row[key]!r}; expected {'a list of class names' if several else 'a class name'}."
        if unknown := [name for name in names if name not in probabilities]:
            return f"{key} {unknown[0]!r} is none of the classes {', '.join(probabilities)}."
    return None
