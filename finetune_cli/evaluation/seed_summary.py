"""Scores of several runs of one setting, over seeds or folds: their mean, and how far it could be off.

Dimensions: S resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from finetune_cli.evaluation.scored_rows import ScoredRows
from finetune_cli.evaluation.uncertainty import bootstrap_values
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.resampling import Resampling
from finetune_cli.records.training import SeedSummary
from finetune_cli.tasks import possible_values

MAX_FREEDOM = 1000  # where t is the normal distribution to three digits


def row_variances(names: Sequence[str], runs: Sequence[ScoredRows], resampling: Resampling) -> dict[str, float]:
    """The variance of each metric's mean over runs that comes from the choice of rows: all on the same resamples."""
    resampled = bootstrap_values(names, runs, resampling)
    return {name: variance(values.mean(axis=0)) for name, values in resampled.items()}


def summarise_seeds(values: Sequence[float], *, level: float, row_variance: float = 0.0) -> SeedSummary:
    """Mean, standard deviation and Student's t interval of the mean of one score over seeds.

    row_variance: of the mean, from the choice of rows (see `row_variances`). With it the interval covers both things
    that are left to chance, as in `compare_seeds`: the seed and the rows. Student's t, not a bootstrap: of 3 to 5
    values a bootstrap interval cannot leave their range and is far too narrow (Hesterberg 2015, "What Teachers Should
    Know About the Bootstrap", section 4.1). One run has no interval (nan).
    """

    def margin(sd: float, n: int) -> float:
        total, freedom = welch([sd**2 / n], [n], row_variance)
        return two_sided_t(level, freedom) * math.sqrt(total)

    return _summary(values, margin)


def summarise_folds(values: Sequence[float], *, n: int, level: float) -> SeedSummary:
    """Mean, standard deviation and corrected resampled t interval over the folds' values.

    n: parts in each repeat, so that a fold tests 1 / (n - 1) as many rows as it trains on. The folds share most of
    their training rows, so their scores are not independent, and the plain standard error is too small: the variance of
    the mean is taken as (1 / J + 1 / (n - 1)) times that of J values (Nadeau and Bengio 2003, "Inference for the
    Generalization Error", equation 10). One value has no interval (nan).
    """
    return _summary(values, lambda sd, folds: two_sided_t(level, folds - 1) * sd * math.sqrt(1 / folds + 1 / (n - 1)))


def _summary(values: Sequence[float], margin: Callable[[float, int], float]) -> SeedSummary:
    """margin: half the interval, from the standard deviation and the number of the values."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return SeedSummary(mean, math.nan, math.nan, math.nan)
    sd = float(array.std(ddof=1))
    half = margin(sd, len(array))
    return SeedSummary(mean, sd, mean - half, mean + half)


def within_range(summary: SeedSummary, metric: str) -> SeedSummary:
    """With the interval's ends where the metric can be: Student's t does not know that no score is above 1."""
    low, high = np.clip([summary.low, summary.high], *possible_values(metric)).tolist()
    return replace(summary, low=low, high=high)


def at_least_as_wide(summary: SeedSummary, of_rows: MetricValue) -> SeedSummary:
    """With an interval that reaches as far as that of one score on all rows: few folds may be alike by chance."""
    if of_rows.low is None or of_rows.high is None:
        return summary
    low, high = summary.mean - (of_rows.value - of_rows.low), summary.mean + (of_rows.high - of_rows.value)
    return replace(summary, low=float(np.fmin(summary.low, low)), high=float(np.fmax(summary.high, high)))


def variance(resampled: NDArray[np.float64]) -> float:
    """Of values (S,), nan left out."""
    defined = resampled[~np.isnan(resampled)]
    return float(defined.var()) if len(defined) else math.nan


def two_sided_t(level: float, freedom: int) -> float:
    """The t with P(|T| <= t) = level, of Student's distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def welch(variances: Sequence[float], sizes: Sequence[int], of_rows: float) -> tuple[float, int]:
    """Variance of the difference and its degrees of freedom; `variances` are of means of `sizes` runs."""
    total = sum(variances) + of_rows
    uncertain = sum(variance**2 / (size - 1) for variance, size in zip(variances, sizes, strict=True))
    if uncertain == 0 or math.isnan(total):
        return total, MAX_FREEDOM
    return total, int(min(MAX_FREEDOM, max(1, total**2 / uncertain)))
