"""The metrics of tasks with several labels a row, equal to scikit-learn's.

Forms are those of `confusion` (functions of counts, for a block of resamples at once) and of `row_metrics` (functions
of row weights). Averages are over all classes; micro counts every class of every row as a decision of its own.

Dimensions: N rows, R resamples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from finetune_cli.evaluation.confusion import (
    ClassCounts,
    FloatArray,
    IntArray,
    divide,
    f1,
    precision,
    recall,
    weighted_f1,
)
from finetune_cli.evaluation.row_metrics import ECE_BINS, WeightedMetric, mean_over_rows, surprise, two_class_auroc

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class SetCounts(ClassCounts):
    """Besides the counts of each class, float64 (..., C), rows (...): with exactly the right labels, and all."""

    exact: FloatArray
    rows: FloatArray


def set_counter(labels: IntArray, predictions: BoolArray) -> Callable[[FloatArray], SetCounts]:
    """A function from row weights (R, N) to the counts of the rows so weighted; labels and predictions are (N, C)."""
    labelled, predicted = labels.astype(np.float64), predictions.astype(np.float64)
    correct, exact = labelled * predicted, (labelled == predicted).all(axis=1).astype(np.float64)
    return lambda weights: SetCounts(
        correct=weights @ correct,
        labelled=weights @ labelled,
        predicted=weights @ predicted,
        exact=weights @ exact,
        rows=weights.sum(axis=-1),
    )


def _micro(counts: SetCounts) -> ClassCounts:
    """All decisions as those of one class."""
    return ClassCounts(
        *(of_class.sum(axis=-1, keepdims=True) for of_class in (counts.correct, counts.labelled, counts.predicted))
    )


def _hamming_loss(counts: SetCounts) -> FloatArray:
    wrong = counts.labelled + counts.predicted - 2 * counts.correct
    return divide(wrong.sum(-1), counts.rows * wrong.shape[-1])


SET_METRICS: dict[str, Callable[[SetCounts], FloatArray]] = {
    "accuracy": lambda counts: divide(counts.exact, counts.rows),
    "f1_micro": lambda counts: f1(_micro(counts))[..., 0],
    "f1_macro": lambda counts: f1(counts).mean(axis=-1),
    "f1_weighted": weighted_f1,
    "precision_micro": lambda counts: precision(_micro(counts))[..., 0],
    "precision_macro": lambda counts: precision(counts).mean(axis=-1),
    "recall_micro": lambda counts: recall(_micro(counts))[..., 0],
    "recall_macro": lambda counts: recall(counts).mean(axis=-1),
    "hamming_loss": _hamming_loss,
}


def _calibration_error(labels: IntArray, probabilities: FloatArray) -> WeightedMetric:
    """Mean distance of probability from share over 15 bins of equal width, (low, high], of all rows and classes."""
    gaps = labels - probabilities
    bins = np.digitize(probabilities, np.linspace(0, 1, ECE_BINS + 1)[1:-1], right=True)
    by_bin = np.stack([np.where(bins == number, gaps, 0.0).sum(axis=1) for number in range(ECE_BINS)], axis=1)
    num_classes = labels.shape[1]
    return lambda weights: np.abs(weights @ by_bin).sum(axis=1) / (weights.sum(axis=1) * num_classes)


def _mean_over_classes(
    metric: Callable[[BoolArray, FloatArray], WeightedMetric], labels: IntArray, probabilities: FloatArray
) -> WeightedMetric:
    of_class = [metric(labels[:, c] == 1, probabilities[:, c]) for c in range(labels.shape[1])]
    return lambda weights: np.mean([values(weights) for values in of_class], axis=0)


def _average_precision(positive: BoolArray, scores: FloatArray) -> WeightedMetric:
    """Each positive row's precision among the rows that score at least as high, averaged over the positive rows."""
    order = np.argsort(-scores, kind="stable")
    hits = positive[order].astype(np.float64)
    rows = np.flatnonzero(positive)
    last = np.searchsorted(-scores[order], -scores[rows], side="right") - 1  # of the rows with the same score

    def average(weights: FloatArray) -> FloatArray:
        ordered = np.take(weights, order, axis=1)
        hits_above = np.take(np.cumsum(ordered * hits, axis=1), last, axis=1)
        rows_above = np.take(np.cumsum(ordered, axis=1), last, axis=1)
        of_positives = np.take(weights, rows, axis=1)
        total = of_positives.sum(axis=1)
        summed = (of_positives * divide(hits_above, rows_above)).sum(axis=1)
        return np.divide(summed, total, out=np.full_like(total, np.nan), where=total > 0)

    return average


SET_ROW_METRICS: dict[str, Callable[..., WeightedMetric]] = {
    # nan unless every class has rows with and without it.
    "auroc": partial(_mean_over_classes, two_class_auroc),
    # nan unless every class occurs (scikit-learn has 0 for a class that does not).
    "average_precision": partial(_mean_over_classes, _average_precision),
    # The mean over rows and classes of -log p, p the probability that the class is there, or that it is not.
    "log_loss": lambda labels, probabilities: mean_over_rows(
        surprise(np.where(labels == 1, probabilities, 1 - probabilities)).mean(axis=1)
    ),
    "brier": lambda labels, probabilities: mean_over_rows(((probabilities - labels) ** 2).mean(axis=1)),
    "ece": _calibration_error,
}
