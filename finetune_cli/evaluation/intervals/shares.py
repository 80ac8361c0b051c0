"""Intervals of shares: of rows, or of decisions that come several to a row. Closed form, so that no draw decides.

Dimensions: N rows.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Interval = tuple[float, float]

# Of the intervals that may miss the truth, half may lie above it and half below. Near the best score none lies above:
# even a perfect score's reaches down to the truth. With one half alone a 95 % interval would hold it in 97.5 %, so that
# more may lie below there; not all, since scores come in steps, and of fewer trials in steps too large for that.
SHARE_BELOW_NEAR_THE_BEST, FEWEST_TRIALS = 0.7, 50


def upper_tails(level: float, trials: float) -> tuple[float, float]:
    """How many of the intervals may lie below the truth: as a rule, and where it is near the best score."""
    usual = (1 - level) / 2
    return usual, SHARE_BELOW_NEAR_THE_BEST * (1 - level) if round(trials) >= FEWEST_TRIALS else usual


def upper_end(usual: float, near_the_best: float, low_of_perfect: float) -> float:
    """The upper end from those of both tails; the true score is near the best above a perfect score's lower end."""
    return min(usual, max(near_the_best, low_of_perfect))


def jeffreys(successes: float, trials: float, level: float) -> Interval:
    """The interval of a share with Jeffreys' prior, to the bound where all or nothing succeeded.

    Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion", section 4.1.2; equal-tailed, but for
    ends near 0 and 1, see `upper_end`. Neither number need be whole.
    """
    return 1 - _upper(trials - successes, trials, level), _upper(successes, trials, level)


def _upper(successes: float, trials: float, level: float) -> float:
    from scipy.special import betaincinv

    if successes >= trials:
        return 1.0
    tails = upper_tails(level, trials)
    usual, near_the_best = betaincinv(successes + 0.5, trials - successes + 0.5, 1 - np.array(tails))
    return upper_end(float(usual), float(near_the_best), low_of_perfect=float(betaincinv(trials + 0.5, 0.5, tails[0])))


def wilson(count: float, total: int, level: float) -> Interval:
    """The score interval of a share (Wilson 1927), which is not of width 0 where nothing, or all, was counted."""
    z, share = NormalDist().inv_cdf((1 + level) / 2), count / total
    centre = share + z * z / (2 * total)
    margin = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return (centre - margin) / scale if count else 0.0, (centre + margin) / scale if count < total else 1.0


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
