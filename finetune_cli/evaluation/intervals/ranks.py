"""Intervals of metrics that only the order of the scores decides: areas under curves.

Each is None where these rows are too few for an interval that holds the truth as often as it says.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from finetune_cli.evaluation.bisection import bisect
from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.intervals.shares import Interval, jeffreys, upper_end, upper_tails
from finetune_cli.evaluation.row_metrics import middle_ranks

RANKS_TRUSTED = 10  # rows out of order of which the variance that they show counts as much as the formula's
MIN_POSITIVE = 20  # of average precision, which fewer positive rows overrate by more than the interval is wide


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

    extra = (num_positive + num_negative) / 2 - 1

    def of_formula(true: float) -> float:
        spread = true * (1 - true) * (1 + extra * ((1 - true) / (2 - true) + true / (1 + true)))
        return spread / (num_positive * num_negative)

    def end(area: float, outside: float, tail: float, scale: float = 1.0) -> float:
        reach = float(ndtri(tail)) ** 2 * scale
        last, _ = bisect(lambda true: (area - true) ** 2 <= reach * of_formula(true), area, outside, halvings=40)
        return last

    scale = (shown * variance / of_formula(area) + RANKS_TRUSTED) / (shown + RANKS_TRUSTED) if 0 < area < 1 else 1.0
    tails = upper_tails(level, num_positive + num_negative)
    usual, near_the_best = (end(area, 1.0, tail, scale) for tail in tails)
    high = upper_end(usual, near_the_best, low_of_perfect=end(1.0, 0.0, tails[0]))
    return end(area, 0.0, tails[0], scale), high


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
