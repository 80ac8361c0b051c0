"""The probability above which a class is answered, fitted to be best for a metric.

Dimensions: N rows, K cut points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finetune_cli.errors import DataError
from finetune_cli.evaluation.confusion import CONFUSION_METRICS, ClassCounts, FloatArray, IntArray

EQUAL = 1e-12  # metrics nearer than this are the same number, rounded differently


def fit_threshold(positive: FloatArray, labels: IntArray, metric: str) -> float:
    """The t for which "class 1 where its probability is above t" has the best metric; of two classes, labels 0 and 1.

    positive: probabilities (N,) of class 1. A metric changes only where t passes a row, so that the best values are
    plateaus; the middle of the widest one is taken. Raises DataError for rows of one class.
    """
    if len(np.unique(labels)) != 2:
        raise DataError("--fit threshold: all rows have one class. It needs validation rows of both.")
    values, places = np.unique(positive, return_inverse=True)
    edges = np.concatenate([[0.0], values, [1.0]])  # cut k: t in [edges[k], edges[k + 1]), class 1 from values[k] on
    scores = CONFUSION_METRICS[metric](_counts_of_cuts(places, labels, len(values)))
    possible = edges[:-1] < edges[1:]
    possible[-1] = True  # t = 1 is above no probability, so the last cut is there even at width 0
    best = possible & (scores >= scores[possible].max() - EQUAL)
    low, high = _widest_plateau(edges, best)
    middle = (low + high) / 2
    return float(middle if middle < high else low)


def _counts_of_cuts(places: IntArray, labels: IntArray, num_values: int) -> ClassCounts:
    """Counts (K, 2) of each cut k = 0..num_values: class 1 is answered from the k-th smallest probability on."""

    def below(rows: IntArray) -> FloatArray:
        return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_values))]).astype(np.float64)

    negatives, positives = below(places[labels == 0]), below(places[labels == 1])
    answered_negative = negatives + positives
    return ClassCounts(
        correct=np.stack([negatives, positives[-1] - positives], axis=-1),
        labelled=np.broadcast_to([negatives[-1], positives[-1]], (num_values + 1, 2)),
        predicted=np.stack([answered_negative, len(labels) - answered_negative], axis=-1),
    )


def _widest_plateau(edges: FloatArray, best: NDArray[np.bool_]) -> tuple[float, float]:
    """From where to where the widest run of best cuts goes; the first of equals."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], best, [False]])))
    starts, ends = edges[bounds[::2]], edges[bounds[1::2]]
    widest = int(np.argmax(ends - starts))
    return float(starts[widest]), float(ends[widest])
