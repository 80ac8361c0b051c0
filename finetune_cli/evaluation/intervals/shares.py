"""Intervals of shares: of rows, or of decisions that come several to a row. Closed form, so that no draw decides.

Dimensions: N rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Interval = tuple[float, float]


def jeffreys(successes: float, trials: float, level: float) -> Interval:
    """The equal-tailed interval of a share with Jeffreys' prior, to the bound where all or nothing succeeded.

    Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion", section 4.1.2. Neither number need be
    whole.
    """
    from scipy.special import betaincinv

    tail, failures = (1 - level) / 2, trials - successes
    low = float(betaincinv(successes + 0.5, failures + 0.5, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 0.5, failures + 0.5, 1 - tail)) if failures > 0 else 1.0
    return low, high


def share_interval(hits: FloatArray, trials: FloatArray, level: float) -> Interval | None:
    """The interval of sum(hits) / sum(trials), both (N,) with 0 <= hits <= trials; None without a trial.

    Decisions of one row are alike. They count as the number of independent trials that would leave as much uncertainty
    (Korn and Graubard 1998, "Confidence Intervals for Proportions with Small Expected Number of Positive Counts"), and
    where all are right or all are wrong, which shows nothing of how alike they are, as one for each row.
    """
    total, rows = float(trials.sum()), int((trials > 0).sum())
    if not rows:
        return None
    share = float(hits.sum()) / total
    variance = float(((hits - share * trials) ** 2).sum()) / total**2
    independent = share * (1 - share) / variance if variance > 0 else float(rows)
    return jeffreys(share * min(independent, total), min(independent, total), level)


def f1_interval(correct: FloatArray, labelled: FloatArray, predicted: FloatArray, level: float) -> Interval | None:
    """The interval of F1 from the counts of each row, or of groups of rows (N,); see `share_interval`.

    F1 = 2J / (1 + J) with J = TP / (TP + FP + FN), a share of the decisions in which the class occurs at all.
    """
    found = share_interval(correct, labelled + predicted - correct, level)
    if found is None:
        return None
    low, high = (2 * share / (1 + share) for share in found)
    return low, high
