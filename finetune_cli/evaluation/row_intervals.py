"""Intervals of metrics that need more of a row than its answer: means, correlations, ranks, calibration.

Each takes labels and scores as its metric does and gives the interval, or None where these rows are too few for one
that holds the truth as often as it says. How often that is: scripts/simulations/coverage.py.

Dimensions: N rows, C classes, B bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.proportions import Interval, jeffreys
from finetune_cli.evaluation.row_metrics import ECE_BINS, middle_ranks, standardise

Moments = tuple[FloatArray, FloatArray]

MIN_ROWS = 10
MIN_ROWS_OF_MEAN = 20
MIN_SHARING = 4.0  # rows that share a mean's sum; below, the interval of a mean holds the truth in less than 92 %
RANKS_TRUSTED = 10  # rows out of order of which the variance that they show counts as much as the formula's
MIN_POSITIVE = 20  # of average precision, which fewer positive rows overrate by more than the interval is wide
CALIBRATION_DRAWS = 400
# Of the intervals that may miss, how many may lie too high, and too low. Below the error of a calibrated model, 0, no
# interval lies: with halves 97.5 % would hold it. The upper end, of three directions the widest, misses less than this.
SHARE_OF_LOW, SHARE_OF_HIGH = 0.7, 0.4
HALVINGS = 12
EQUAL = 1e-9  # sums nearer than this are the same number, rounded differently


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
    low, high = -1.0, 1.0
    for _ in range(40):
        rho = (low + high) / 2
        tau = 2 / math.pi * math.asin(2 * math.sin(math.pi * rho / 6))
        low, high = (rho, high) if ((n - 2) * rho + 3 * tau) / (n + 1) < mean else (low, rho)
    return (low + high) / 2


def _fisher(r: float, variance: float, level: float) -> Interval:
    from scipy.special import ndtri

    margin = float(ndtri((1 + level) / 2)) * math.sqrt(variance)
    return math.tanh(math.atanh(r) - margin), math.tanh(math.atanh(r) + margin)


def area_interval(positives: Sequence[np.ndarray], scores: Sequence[FloatArray], level: float) -> Interval | None:
    """Of the mean area under the ROC curve of several classes against the rest, each bool (N,) with its scores (N,)."""
    parts = []
    for positive, of_class in zip(positives, scores, strict=True):
        num_positive, num_negative = int(positive.sum()), int((~positive).sum())
        if not num_positive or not num_negative:
            return None
        ranks, own = middle_ranks(of_class), np.empty(len(positive))
        own[positive], own[~positive] = middle_ranks(of_class[positive]), middle_ranks(of_class[~positive])
        placed = np.where(positive, (ranks - own) / num_negative, 1 - (ranks - own) / num_positive)
        area = float(placed[positive].mean())
        influence = (placed - area) / np.where(positive, num_positive, num_negative)
        shown = min(int((placed[rows] < 1).sum()) for rows in (positive, ~positive))
        interval = _newcombe(area, num_positive, num_negative, level, float((influence**2).sum()), shown)
        parts.append((area, interval, influence))
    return _of_mean(parts)


def _newcombe(area: float, num_positive: int, num_negative: int, level: float, variance: float, shown: int) -> Interval:
    """Method 5 of Newcombe 2006, "Confidence Intervals for an Effect Size Measure Based on the Mann-Whitney Statistic":
    the areas from which this one is less than so many of their own standard errors away. The formula is scaled towards
    the variance that the rows show (DeLong, DeLong and Clarke-Pearson 1988), the more, the more rows show it."""
    from scipy.special import ndtri

    quantile, extra = float(ndtri((1 + level) / 2)), (num_positive + num_negative) / 2 - 1

    def of_formula(true: float) -> float:
        spread = true * (1 - true) * (1 + extra * ((1 - true) / (2 - true) + true / (1 + true)))
        return spread / (num_positive * num_negative)

    scale = (shown * variance / of_formula(area) + RANKS_TRUSTED) / (shown + RANKS_TRUSTED) if 0 < area < 1 else 1.0
    ends = []
    for outside in (0.0, 1.0):
        inside = area
        for _ in range(40):
            middle = (inside + outside) / 2
            near = (area - middle) ** 2 <= quantile**2 * scale * of_formula(middle)
            inside, outside = (middle, outside) if near else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def precision_interval(positives: Sequence[np.ndarray], scores: Sequence[FloatArray], level: float) -> Interval | None:
    """Of the mean average precision of several classes: that of one as a share, of as many rows as vary as much.

    Boyd, Eng and Page 2013, "Area under the Precision-Recall Curve: Point Estimates and Confidence Intervals", take its
    positive rows for these; so it is here as far as few rows are out of order.
    """
    parts = []
    for positive, of_class in zip(positives, scores, strict=True):
        num_positive = int(positive.sum())
        if num_positive < MIN_POSITIVE:
            return None
        order = np.argsort(-of_class, kind="stable")
        last = np.searchsorted(-of_class[order], -of_class, side="right")  # rows that score at least as high as each
        hits = np.cumsum(positive[order])[last - 1]
        precisions = hits / last
        mean = float(precisions[positive].mean())
        # A row counts in the precision of every positive row that scores no higher.
        own, all_rows = (np.cumsum((of_row * positive)[order][::-1])[::-1] for of_row in (1 / last, hits / last**2))
        first = np.searchsorted(-of_class[order], -of_class, side="left")
        influence = (positive * (precisions - mean + own[first]) - all_rows[first]) / num_positive
        shown, trials = int((precisions[positive] < 1).sum()), float(num_positive)
        if shown and (variance := float((influence**2).sum())) > 0:
            of_rows = mean * (1 - mean) / variance
            trials = (shown * of_rows + RANKS_TRUSTED * trials) / (shown + RANKS_TRUSTED)
        parts.append((mean, jeffreys(mean * trials, trials, level), influence))
    return _of_mean(parts)


def _of_mean(parts: Sequence[tuple[float, Interval, FloatArray]]) -> Interval:
    """The interval of the mean of several scores from theirs and the correlation of their rows' influences.

    Zou and Donner 2008, "Construction of Confidence Limits about Effect Measures: A General Approach".
    """
    points = np.array([point for point, _, _ in parts])
    ends = np.array([interval for _, interval, _ in parts])
    influences = np.stack([influence for _, _, influence in parts])
    lengths = np.sqrt((influences**2).sum(axis=1))
    directions = np.divide(influences.T, lengths, out=np.zeros(influences.T.shape), where=lengths > 0)
    correlation = directions.T @ directions
    np.fill_diagonal(correlation, 1.0)
    below, above = points - ends[:, 0], ends[:, 1] - points
    low, high = (math.sqrt(max(0.0, float(side @ correlation @ side))) / len(parts) for side in (below, above))
    return float(points.mean()) - low, float(points.mean()) + high


def calibration_interval(confidence: FloatArray, right: np.ndarray, level: float, seed: int) -> Interval | None:
    """Of the expected calibration error, of decisions with a confidence, (N,) or several a row (N, C), right or not.

    Chance alone makes one, so that resampling cannot say what is behind it. Here it is asked which true errors could
    have given the error found: bins are as far from calibrated as these, times a factor, or all too sure by one factor.
    How many of a bin's rows are right is drawn from the binomial distribution, as the rounded normal one. 0 is inside
    where a calibrated model would show an error as large. Decisions of a row are alike: what is drawn varies by as much
    more as the sums of rows do.
    """
    if len(confidence) < MIN_ROWS:
        return None
    alike = 1.0
    if confidence.ndim == 2:
        surplus = right - confidence
        alike = max(1.0, float((surplus.sum(axis=1) ** 2).sum() / (surplus**2).sum()))
        confidence, right = confidence.ravel(), right.ravel()
    bins = np.digitize(confidence, np.linspace(0, 1, ECE_BINS + 1)[1:-1], right=True)
    counts = np.bincount(bins, minlength=ECE_BINS)
    counts, used = counts[counts > 0], counts > 0
    expected, found = (np.bincount(bins, weights=one, minlength=ECE_BINS)[used] for one in (confidence, right))
    mean, share = expected / counts, found / counts
    error = float(np.abs(found - expected).sum())
    of_low, of_high = SHARE_OF_LOW * (1 - level), SHARE_OF_HIGH * (1 - level)

    def accuracy(direction: FloatArray, factor: float) -> FloatArray:
        return np.clip(mean + factor * direction, 0.0, 1.0)

    noise = np.random.default_rng([seed, 3]).normal(size=(CALIBRATION_DRAWS, len(counts)))

    def errors(direction: FloatArray, factor: float) -> FloatArray:
        of_bins = accuracy(direction, factor)
        drawn = np.rint(counts * of_bins + np.sqrt(alike * counts * of_bins * (1 - of_bins)) * noise)
        return np.abs(np.clip(drawn, 0, counts) - expected).sum(axis=1)

    def true_error(direction: FloatArray, factor: float) -> float:
        return float((counts * np.abs(accuracy(direction, factor) - mean)).sum()) / len(confidence)

    def not_too_small(direction: FloatArray, factor: float) -> bool:
        return bool((errors(direction, factor) <= error + EQUAL).mean() >= of_high)

    def last(accepted: Callable[[float], bool], limit: float) -> float:
        """The largest factor that is accepted, from one that is; up to the limit."""
        low, high = 0.0, limit
        if accepted(high):
            return high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if accepted(middle) else (low, middle)
        return (low + high) / 2

    apart, too_sure = share - mean, -mean
    low = 0.0
    if (errors(apart, 0.0) >= error - EQUAL).mean() < of_low:
        factor = last(lambda factor: bool((errors(apart, factor) >= error - EQUAL).mean() < of_low), 2.0)
        low = true_error(apart, factor)
    alone = errors(apart, 1.0)  # of errors that all point one way chance makes no more, it only spreads them
    high = (error + float(np.quantile(alone, 1 - of_high) - alone.mean())) / len(confidence)
    for direction, limit in ((apart, 8.0), (too_sure, 1.0)):
        high = max(high, true_error(direction, last(partial(not_too_small, direction), limit)))
    return low, high
