"""The answers of a model on one split, as arrays: what every part of a report is computed from.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import TaskKind
from finetune_cli.tasks import Kind

Array = NDArray[Any]


@dataclass(frozen=True)
class Answers:
    """classes: names in the order of their numbers; None in regression.

    labels, predictions: class numbers int64 (N,); several labels a row: bool (N, C); regression: float64 (N,).
    probabilities: float64 (N, C); None in regression.
    """

    kind: Kind
    ids: list[Any]
    classes: tuple[str, ...] | None
    labels: Array
    predictions: Array
    probabilities: FloatArray | None

    @property
    def task(self) -> TaskKind:
        return KINDS[self.kind]

    def correct(self) -> NDArray[np.bool_]:
        """bool (N,): the class is right; with several labels a row, all of them are."""
        return self.task.right(self.labels, self.predictions)

    def scores(self) -> FloatArray:
        """The probabilities, or in regression the predictions."""
        return self.predictions if self.probabilities is None else self.probabilities

    def as_scores(self) -> FloatArray:
        """What the metrics take: a predicted class counts as it was given, also where it is not the likeliest one."""
        return self.task.as_scores(self.predictions, len(self.classes or ()))

    def label_of(self, row: int) -> str:
        return self._said(self.labels[row])

    def prediction_of(self, row: int) -> str:
        return self._said(self.predictions[row])

    def _said(self, value: Any) -> str:
        if self.classes is None:
            return f"{value:.4g}"
        if np.ndim(value):
            return ", ".join(name for name, chosen in zip(self.classes, value, strict=True) if chosen) or "none"
        return self.classes[value]


def read_answers(file: Path) -> Answers:
    """The rows of a predictions.jsonl that `finetune evaluate` wrote."""
    ids, labels, predictions, probabilities = [], [], [], []
    classes: tuple[str, ...] = ()
    with file.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            ids.append(row["id"])
            labels.append(row["label"])
            predictions.append(row["prediction"])
            if of_classes := row.get("probabilities"):
                classes = classes or tuple(of_classes)
                probabilities.append(np.array([of_classes[name] for name in classes]))
    if not classes:
        return Answers("regression", ids, None, np.array(labels, float), np.array(predictions, float), None)
    number, matrix = {name: place for place, name in enumerate(classes)}, np.array(probabilities)
    if isinstance(labels[0], list):
        return Answers(
            "multilabel", ids, classes, _indicators(labels, number), _indicators(predictions, number), matrix
        )
    label_numbers, predicted = (np.array([number[name] for name in column]) for column in (labels, predictions))
    return Answers("classification", ids, classes, label_numbers, predicted, matrix)


def _indicators(rows: list[list[str]], number: dict[str, int]) -> NDArray[np.bool_]:
    """Lists of class names as bool (N, C)."""
    matrix = np.zeros((len(rows), len(number)), bool)
    for row, names in enumerate(rows):
        matrix[row, [number[name] for name in names]] = True
    return matrix
