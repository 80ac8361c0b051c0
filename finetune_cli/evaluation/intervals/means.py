"""Intervals of means over the rows, and of correlations: closed forms.

Each gives None where these rows are too few for an interval that holds the truth as often as it says. How often that
is, of all intervals: scripts/simulations/coverage.py.

Dimensions: N rows.
"""

from __future__ import annotations

import math

import numpy as np

from finetune_cli.evaluation.bisection import bisect
from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.intervals.shares import Interval
from finetune_cli.evaluation.row_metrics import middle_ranks, standardise

Moments = tuple[FloatArray, FloatArray]

MIN_ROWS = 10
MIN_ROWS_OF_MEAN = 20
MIN_SHARING = 5.0  # rows that share a mean's sum; below, the interval of a mean holds the truth in less than 92 %


def mean_interval(values: FloatArray, level: float, expected: Moments | None = None) -> Interval | None:
    """Of the mean of values (N,) that are 0 or more: Student's t, corrected for skewness by Hall's transformation.

    Hall 1992, "On the Removal of Skewness by Transformation". None where few rows make most of the sum, among those
    drawn or by what is expected of each, the means of its value and of its square: then the rows that were not drawn
    decide. Rows that share a sum: (sum of values)^2 / sum of squares.
    """
    from scipy.special import stdtrit

    n, mean = len(values), float(values.mean())
    deviations = values - mean
    sd = math.sqrt(float((deviations**2).mean()))
    if n < MIN_ROWS_OF_MEAN or sd == 0 or _sharing(values, values**2) < MIN_SHARING:
        return None
    if expected is not None and _sharing(*expected) < MIN_SHARING:
        return None
    skewness = float((deviations**3).mean()) / sd**3
    quantile = float(stdtrit(n - 1, (1 + level) / 2)) / math.sqrt(n)

    def transformed(t: float) -> float:
        if abs(skewness) < 1e-6:
            return t
        return 3 / skewness * (float(np.cbrt(1 + skewness * (t - skewness / (6 * n)))) - 1)

    scale = sd * math.sqrt(n / (n - 1))
    return max(0.0, mean - scale * transformed(quantile)), mean - scale * transformed(-quantile)


def _sharing(values: FloatArray, squares: FloatArray) -> float:
    return float(values.sum()) ** 2 / float(squares.sum())


def pearson_interval(labels: FloatArray, predictions: FloatArray, level: float) -> Interval | None:
    """Fisher's z, with the standard error that the rows show where it is above that of a normal distribution."""
    n = len(labels)
    x, y = standardise(labels), standardise(predictions)
    if n < MIN_ROWS or not (x.any() and y.any()):
        return None
    x, y = x / x.std(), y / y.std()
    r = float((x * y).mean())
    if 1 - r**2 < 1e-12:
        return None
    influence = x * y - r * (x**2 + y**2) / 2
    return _fisher(r, max(1.0, float((influence**2).mean()) / (1 - r**2) ** 2) / (n - 3), level)


def spearman_interval(labels: FloatArray, predictions: FloatArray, level: float) -> Interval | None:
    """Fisher's z with the variance of Bonett and Wright 2000, "Sample Size Requirements for Estimating Pearson, Kendall
    and Spearman Correlations", its ends freed of the bias that few rows have."""
    n = len(labels)
    x, y = middle_ranks(labels), middle_ranks(predictions)
    if n < MIN_ROWS or min(x.std(), y.std()) == 0:
        return None
    r = float(np.corrcoef(x, y)[0, 1])
    if 1 - r**2 < 1e-12:
        return None
    low, high = (_unbiased(end, n) for end in _fisher(r, (1 + r**2 / 2) / (n - 3), level))
    return low, high


def _unbiased(mean: float, n: int) -> float:
    """The rank correlation rho for which n rows have this mean: ((n - 2) rho + 3 tau) / (n + 1) (Kendall 1948), with
    Kendall's tau as it is beside rho in a normal distribution."""

    def is_too_low(rho: float) -> bool:
        tau = 2 / math.pi * math.asin(2 * math.sin(math.pi * rho / 6))
        return ((n - 2) * rho + 3 * tau) / (n + 1) < mean

    return sum(bisect(is_too_low, -1.0, 1.0, halvings=40)) / 2


def _fisher(r: float, variance: float, level: float) -> Interval:
    from scipy.special import ndtri

    margin = float(ndtri((1 + level) / 2)) * math.sqrt(variance)
    return math.tanh(math.atanh(r) - margin), math.tanh(math.atanh(r) + margin)
