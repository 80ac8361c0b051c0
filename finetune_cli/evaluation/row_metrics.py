"""Metrics that need more of a row than its predicted class: probabilities, numbers, ranks.

Each builder takes labels and scores and returns a function from row weights to values: weights of 1 give the metric
itself, the counts of a bootstrap resample give the metric of that resample. What does not change between resamples
(sorting, logarithms) is done once.

Dimensions: N rows, R resamples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from finetune_cli.evaluation.confusion import FloatArray, IntArray, sums_by_class

WeightedMetric = Callable[[FloatArray], FloatArray]  # weights (R, N) -> values (R,)

ECE_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks"


def of_label(labels: IntArray, values: FloatArray) -> FloatArray:
    """(N,): of each row's values (N, C), that of its class."""
    return np.asarray(values[np.arange(len(labels)), labels])


def surprise(probabilities: FloatArray) -> FloatArray:
    """-log p, natural logarithm, p kept away from 0 by the float64 epsilon as scikit-learn does."""
    epsilon = float(np.finfo(np.float64).eps)
    return -np.log(np.clip(probabilities, epsilon, 1 - epsilon))


def squared_errors(probabilities: FloatArray) -> FloatArray:
    """(N, C): what a row's Brier score is if its label is this class. Two classes: (p1 - y)^2, 0 to 1. More: the
    squares summed over the classes, 0 to 2 (Brier 1950)."""
    summed = (probabilities**2).sum(axis=1, keepdims=True) + 1 - 2 * probabilities
    return summed / 2 if probabilities.shape[1] == 2 else summed


def log_loss(labels: IntArray, probabilities: FloatArray) -> WeightedMetric:
    """Mean of -log p(label)."""
    return mean_over_rows(surprise(of_label(labels, probabilities)))


def brier(labels: IntArray, probabilities: FloatArray) -> WeightedMetric:
    """Two classes: mean of (p1 - y)^2, 0 to 1. More classes: the squares summed over them, 0 to 2 (Brier 1950)."""
    summed = np.einsum("nc,nc->n", probabilities, probabilities) + 1 - 2 * of_label(labels, probabilities)
    return mean_over_rows(summed / 2 if probabilities.shape[1] == 2 else summed)


def expected_calibration_error(labels: IntArray, probabilities: FloatArray) -> WeightedMetric:
    """Mean distance of confidence from accuracy over 15 bins of equal width, (low, high], of the top probability."""
    confidence = probabilities.max(axis=1)
    gaps = (probabilities.argmax(axis=1) == labels) - confidence
    bins = np.digitize(confidence, np.linspace(0, 1, ECE_BINS + 1)[1:-1], right=True)
    sum_by_bin = sums_by_class(bins, ECE_BINS)
    return lambda weights: np.abs(sum_by_bin(weights * gaps)).sum(axis=1) / weights.sum(axis=1)


def pearson(labels: FloatArray, predictions: FloatArray) -> WeightedMetric:
    """Correlation; nan where labels or predictions are constant."""
    x, y = standardise(labels), standardise(predictions)
    moments = np.stack([x, y, x * x, y * y, x * y], axis=1)

    def correlate(weights: FloatArray) -> FloatArray:
        mean_x, mean_y, mean_xx, mean_yy, mean_xy = (weights @ moments / weights.sum(axis=1, keepdims=True)).T
        variance_x = _significant(mean_xx - mean_x**2, mean_xx)
        variance_y = _significant(mean_yy - mean_y**2, mean_yy)
        return _correlation(mean_xy - mean_x * mean_y, variance_x, variance_y)

    return correlate


def spearman(labels: FloatArray, predictions: FloatArray) -> WeightedMetric:
    """Pearson's correlation of the ranks, equal values sharing their mean rank; nan where either side is constant."""
    rows = np.arange(len(labels))
    rank_labels, rank_predictions = _middle_ranks(labels, rows), _middle_ranks(predictions, rows)

    def correlate(weights: FloatArray) -> FloatArray:
        mean_rank = weights.sum(axis=1, keepdims=True) / 2
        x, y = rank_labels(weights) - mean_rank, rank_predictions(weights) - mean_rank
        weighted_x, weighted_y = weights * x, weights * y
        return _correlation(_dot(weighted_x, y), _dot(weighted_x, x), _dot(weighted_y, y))

    return correlate


def auroc(labels: IntArray, probabilities: FloatArray) -> WeightedMetric:
    """Area under the ROC curve of class 1; for more classes the plain mean of each class against the rest.

    nan unless every class occurs and, against it, another.
    """
    num_classes = probabilities.shape[1]
    if num_classes == 2:
        return two_class_auroc(labels == 1, probabilities[:, 1])
    rows_of = sums_by_class(labels, num_classes)

    @cache
    def areas() -> list[WeightedMetric]:
        return [two_class_auroc(labels == c, probabilities[:, c]) for c in range(num_classes)]

    def mean(weights: FloatArray) -> FloatArray:
        means = np.full(len(weights), np.nan)
        defined = (rows_of(weights) > 0).all(axis=1)  # of thousands of classes most resamples lack one
        if defined.any():
            means[defined] = np.mean([area(weights[defined]) for area in areas()], axis=0)
        return means

    return mean


ROW_METRICS: dict[str, Callable[..., WeightedMetric]] = {
    "auroc": auroc,
    "log_loss": log_loss,
    "brier": brier,
    "ece": expected_calibration_error,
}
NUMBER_METRICS: dict[str, Callable[..., WeightedMetric]] = {
    "pearson": pearson,
    "spearman": spearman,
    "mse": lambda labels, predictions: mean_over_rows((labels - predictions) ** 2),
}


def mean_over_rows(values: FloatArray) -> WeightedMetric:
    return lambda weights: weights @ values / weights.sum(axis=1)


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    """Row by row, (R, N) and (R, N) to (R,), without the product as an array."""
    return np.einsum("rn,rn->r", a, b)


def standardise(values: FloatArray) -> FloatArray:
    """Centred, scaled into [-1, 1] so that squares neither cancel nor overflow; zeros if constant up to rounding."""
    centred = values - values.mean()
    spread = np.abs(centred).max()
    if spread <= 1e-13 * np.abs(values).max():  # SciPy's bound for a nearly constant input of pearsonr
        return np.zeros_like(values)
    return centred / spread


def _significant(variance: FloatArray, second_moment: FloatArray) -> FloatArray:
    """0 where a resample's variance is nothing but the rounding error of the subtraction that made it."""
    return np.where(variance > 1e-13 * second_moment, variance, 0.0)


def _correlation(covariance: FloatArray, variance_x: FloatArray, variance_y: FloatArray) -> FloatArray:
    scale = np.sqrt(variance_x) * np.sqrt(variance_y)
    result = np.divide(covariance, scale, out=np.full_like(covariance, np.nan), where=scale > 0)
    return np.clip(result, -1.0, 1.0)


def two_class_auroc(positive: NDArray[np.bool_], scores: FloatArray) -> WeightedMetric:
    """Mann-Whitney: pairs (positive, negative) in the right order, ties counting half, over all pairs.

    The ranks of the positives count the positives below them too; those pairs are half of all pairs of positives,
    whatever the order. Every term is a whole number of halves below 2^53, hence exact.
    """
    rows = np.flatnonzero(positive)
    rows = rows[np.argsort(scores[rows], kind="stable")]  # neighbours in rank are neighbours in memory
    ranks = _middle_ranks(scores, rows)

    def area(weights: FloatArray) -> FloatArray:
        of_positives = np.take(weights, rows, axis=1)
        num_positive = of_positives.sum(axis=1)
        wins = _dot(of_positives, ranks(weights)) - num_positive**2 / 2
        pairs = num_positive * (weights.sum(axis=1) - num_positive)
        return np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0)

    return area


def middle_ranks(values: FloatArray) -> FloatArray:
    """Ranks (N,) from 0.5 on, equal values sharing their mean rank."""
    return _middle_ranks(values, np.arange(len(values)))(np.ones((1, len(values))))[0]


def _middle_ranks(values: FloatArray, rows: IntArray) -> WeightedMetric:
    """A function from weights (R, N) to (R, len(rows)): the weight below each of these rows, half its equals' added."""
    order = np.argsort(values, kind="stable")
    first = np.searchsorted(values[order], values[rows], side="left")
    past_last = np.searchsorted(values[order], values[rows], side="right")

    def ranks(weights: FloatArray) -> FloatArray:
        below = np.zeros((len(weights), len(values) + 1))
        np.cumsum(np.take(weights, order, axis=1), axis=1, out=below[:, 1:])
        return (np.take(below, first, axis=1) + np.take(below, past_last, axis=1)) / 2

    return ranks
