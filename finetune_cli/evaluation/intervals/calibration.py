"""The interval of the expected calibration error.

Chance alone makes one, so that resampling cannot say what is behind it. Here it is asked which true errors could have
given the error found: bins are as far from calibrated as these, times a factor, or all too sure by one factor. How many
of a bin's rows are right is drawn from the binomial distribution, as the rounded normal one.

Dimensions: N rows, C classes, B bins that have rows, S draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from finetune_cli.evaluation.bisection import bisect
from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.intervals.shares import Interval
from finetune_cli.evaluation.row_metrics import ECE_BINS

MIN_ROWS = 10
DRAWS = 400
HALVINGS = 12
EQUAL = 1e-9  # sums nearer than this are the same number, rounded differently
# Of the intervals that may miss, how many may lie too high, and too low. Below the error of a calibrated model, 0, no
# interval lies: with halves 97.5 % would hold it. The upper end, of three directions the widest, misses less than this.
SHARE_OF_LOW, SHARE_OF_HIGH = 0.7, 0.4


@dataclass(frozen=True)
class _Bins:
    """Decisions by their confidence: how many (B,), and the sums of their confidences and of those that are right (B,).

    alike: how much more the sums of a row's decisions vary than if these were independent. noise: standard normal
    (S, B). Calibration errors are sums over the decisions.
    """

    counts: FloatArray
    expected: FloatArray
    right: FloatArray
    alike: float
    noise: FloatArray

    @property
    def error(self) -> float:
        """The one that was found."""
        return float(np.abs(self.right - self.expected).sum())

    def true_error(self, direction: FloatArray, factor: float) -> float:
        """When the bins' shares of right decisions are off by `factor` times this direction (B,)."""
        return float((self.counts * np.abs(self._shares(direction, factor) - self.expected / self.counts)).sum())

    def errors(self, direction: FloatArray, factor: float) -> FloatArray:
        """Those (S,) that would then be found."""
        shares = self._shares(direction, factor)
        drawn = np.rint(self.counts * shares + np.sqrt(self.alike * self.counts * shares * (1 - shares)) * self.noise)
        return np.asarray(np.abs(np.clip(drawn, 0, self.counts) - self.expected).sum(axis=1))

    def _shares(self, direction: FloatArray, factor: float) -> FloatArray:
        return np.clip(self.expected / self.counts + factor * direction, 0.0, 1.0)


def calibration_interval(confidence: FloatArray, right: np.ndarray, level: float, seed: int) -> Interval | None:
    """Of the expected calibration error, of decisions with a confidence, (N,) or several a row (N, C), right or not.

    0 is inside where a calibrated model would show an error as large.
    """
    if len(confidence) < MIN_ROWS:
        return None
    bins = _binned(confidence, right, seed)
    of_low, of_high = SHARE_OF_LOW * (1 - level), SHARE_OF_HIGH * (1 - level)
    apart, too_sure = (bins.right - bins.expected) / bins.counts, -bins.expected / bins.counts

    def too_large(factor: float) -> bool:
        """The error found, for true ones of `factor` times those that the bins show."""
        return bool((bins.errors(apart, factor) >= bins.error - EQUAL).mean() < of_low)

    def not_too_small(direction: FloatArray, factor: float) -> bool:
        return bool((bins.errors(direction, factor) <= bins.error + EQUAL).mean() >= of_high)

    low = bins.true_error(apart, _last(too_large, 2.0)) if too_large(0.0) else 0.0
    alone = bins.errors(apart, 1.0)  # of errors that all point one way chance makes no more, it only spreads them
    highs = [bins.error + float(np.quantile(alone, 1 - of_high) - alone.mean())]
    for direction, limit in ((apart, 8.0), (too_sure, 1.0)):
        highs.append(bins.true_error(direction, _last(partial(not_too_small, direction), limit)))
    return low / confidence.size, max(highs) / confidence.size


def _binned(confidence: FloatArray, right: np.ndarray, seed: int) -> _Bins:
    """Decisions of a row are alike: what is drawn varies by as much more as the sums of rows do."""
    alike = 1.0
    if confidence.ndim == 2:
        surplus = right - confidence
        alike = max(1.0, float((surplus.sum(axis=1) ** 2).sum() / (surplus**2).sum()))
    numbers = np.digitize(confidence.ravel(), np.linspace(0, 1, ECE_BINS + 1)[1:-1], right=True)
    counts = np.bincount(numbers, minlength=ECE_BINS)
    used = counts > 0

    def sums(values: FloatArray) -> FloatArray:
        return np.bincount(numbers, weights=values.ravel(), minlength=ECE_BINS)[used].astype(np.float64)

    noise = np.random.default_rng([seed, 3]).normal(size=(DRAWS, int(used.sum())))
    return _Bins(counts[used].astype(np.float64), sums(confidence), sums(right.astype(np.float64)), alike, noise)


def _last(accepted: Callable[[float], bool], limit: float) -> float:
    """The largest factor that is accepted, from 0, which is, up to the limit."""
    return limit if accepted(limit) else sum(bisect(accepted, 0.0, limit, HALVINGS)) / 2
