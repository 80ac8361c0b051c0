"""Metrics that depend on labels and predicted classes alone.

Each is a function of three counts per class. The counts have leading axes of any shape, so that one call scores a whole
block of bootstrap resamples.

Dimensions: N rows, R resamples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune_cli.evaluation.intervals.shares import jeffreys
from finetune_cli.records.evaluation import ClassScore

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ClassCounts:
    """Rows per class, float64 (..., C): rightly predicted as it, labelled as it, predicted as it."""

    correct: FloatArray
    labelled: FloatArray
    predicted: FloatArray


def sums_by_class(classes: IntArray, num_classes: int) -> Callable[[FloatArray], FloatArray]:
    """A function that sums weights (R, N) over the rows of each class (or of any other grouping, 0..C-1), to (R, C)."""
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)

    def sums(weights: FloatArray) -> FloatArray:
        totals = np.zeros((len(weights), num_classes))
        totals[:, present] = np.add.reduceat(np.take(weights, order, axis=1), starts, axis=1)
        return totals

    return sums


def class_counter(labels: IntArray, predictions: IntArray, num_classes: int) -> Callable[[FloatArray], ClassCounts]:
    """A function from row weights (R, N) to the counts (R, C) of the rows so weighted."""
    sum_labelled = sums_by_class(labels, num_classes)
    sum_predicted = sums_by_class(predictions, num_classes)
    is_correct = (labels == predictions).astype(np.float64)
    return lambda weights: ClassCounts(
        correct=sum_labelled(weights * is_correct),
        labelled=sum_labelled(weights),
        predicted=sum_predicted(weights),
    )


def confusion_matrix(labels: IntArray, predictions: IntArray, num_classes: int) -> IntArray:
    """int64 (C, C): row = label, column = prediction."""
    cells = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


def per_class_report(
    counter: Callable[[FloatArray], ClassCounts], num_rows: int, names: Sequence[str], level: float | None
) -> list[ClassScore]:
    """For each class in order: precision, recall, f1 (0.0 where there is nothing to divide by) and support.

    counter: from row weights (R, N) to counts (R, C), see `class_counter`. level: of the intervals; None for none.
    """
    counts = counter(np.ones((1, num_rows)))
    precisions, recalls, f1s, supports = (
        values[0].tolist() for values in (precision(counts), recall(counts), f1(counts), counts.labelled)
    )
    intervals: list[dict[str, list[float] | None]] = [{} for _ in names]
    if level is not None:
        columns = zip(counts.correct[0], counts.labelled[0], counts.predicted[0], strict=True)
        intervals = [_class_intervals(*of_class, level) for of_class in columns]
    return [
        ClassScore(name, precisions[c], recalls[c], f1s[c], int(supports[c]), intervals[c])
        for c, name in enumerate(names)
    ]


def _class_intervals(correct: float, labelled: float, answered: float, level: float) -> dict[str, list[float] | None]:
    """Shares all, F1 as 2J / (1 + J) with J = TP / (TP + FP + FN)."""
    either = labelled + answered - correct
    precise, recalled, joint = (
        list(jeffreys(correct, trials, level)) if trials else None for trials in (answered, labelled, either)
    )
    return {"precision": precise, "recall": recalled, "f1": joint and [2 * end / (1 + end) for end in joint]}


def divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """0.0 where the denominator is 0, as scikit-learn's zero_division."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def precision(counts: ClassCounts) -> FloatArray:
    return divide(counts.correct, counts.predicted)


def recall(counts: ClassCounts) -> FloatArray:
    return divide(counts.correct, counts.labelled)


def f1(counts: ClassCounts) -> FloatArray:
    return divide(2 * counts.correct, counts.labelled + counts.predicted)


def _accuracy(counts: ClassCounts) -> FloatArray:
    """Micro F1 too: with one label and one prediction a row, an error is one false positive and one false negative."""
    return divide(counts.correct.sum(-1), counts.labelled.sum(-1))


def _matthews(counts: ClassCounts) -> FloatArray:
    """Gorodkin's R_K, for two classes the Matthews coefficient; 0.0 when labels or predictions are all one class."""
    total = counts.labelled.sum(-1)
    covariance = counts.correct.sum(-1) * total - (counts.labelled * counts.predicted).sum(-1)
    label_variance = total**2 - (counts.labelled**2).sum(-1)
    prediction_variance = total**2 - (counts.predicted**2).sum(-1)
    return divide(covariance, np.sqrt(label_variance) * np.sqrt(prediction_variance))


PerClass = Callable[[ClassCounts], FloatArray]


def _of_class_one(per_class: PerClass) -> PerClass:
    return lambda counts: per_class(counts)[..., 1]


def _macro(per_class: PerClass) -> PerClass:
    """The mean over the classes that occur among labels or predictions, which is scikit-learn's default too."""

    def macro(counts: ClassCounts) -> FloatArray:
        occurs = (counts.labelled + counts.predicted) > 0
        return divide((per_class(counts) * occurs).sum(-1), occurs.sum(-1).astype(np.float64))

    return macro


def weighted_f1(counts: ClassCounts) -> FloatArray:
    return divide((f1(counts) * counts.labelled).sum(-1), counts.labelled.sum(-1))


CONFUSION_METRICS: dict[str, PerClass] = {
    "accuracy": _accuracy,
    "f1": _of_class_one(f1),
    "precision": _of_class_one(precision),
    "recall": _of_class_one(recall),
    "f1_macro": _macro(f1),
    "f1_micro": _accuracy,
    "f1_weighted": weighted_f1,
    "precision_macro": _macro(precision),
    "recall_macro": _macro(recall),
    "matthews": _matthews,
}
