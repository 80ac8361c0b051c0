"""What a comparison could have shown: the smallest difference that most such tests find, and how many rows or seeds
another one needs.

Card et al. 2020, "With Little Power Comes Great Responsibility": most comparisons of the field have too few rows for
the differences that they are about. A test finds a difference when it calls it real, whatever is found besides.

Dimensions: K numbers of disagreements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from finetune_cli.errors import ConfigError
from finetune_cli.evaluation.bisection import bisect, bisect_whole
from finetune_cli.evaluation.comparison import Difference
from finetune_cli.records.comparison import Plan
from finetune_cli.tasks import possible_values

POWER = 0.8  # the share of tests that are to find a difference; the custom since Cohen 1988
HALVINGS = 40
MOST_ROWS = 1 << 40


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for being a family (Holm 1979): at the level alpha, the chance of any false find is at most
    alpha. nan stays nan and does not count."""
    places = sorted((place for place, p in enumerate(p_values) if not math.isnan(p)), key=p_values.__getitem__)
    adjusted, largest = list(p_values), 0.0
    for rank, place in enumerate(places):
        largest = max(largest, min(1.0, (len(places) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def mcnemar_power(num_rows: float, disagreements: float, difference: float, alpha: float) -> float:
    """The chance that McNemar's exact test finds a true difference of two accuracies, when the models disagree on this
    share of the rows about who is right."""
    from scipy.special import bdtr, gammaln

    n, spread = round(num_rows), math.sqrt(num_rows * disagreements)
    first, last = (round(n * disagreements + sign * (8 * spread + 10)) for sign in (-1, 1))
    k = np.unique(np.linspace(max(0, first), min(n, last), 2001).astype(np.int64))  # enough of very many
    log_share, log_rest = math.log(disagreements), math.log1p(-disagreements) if disagreements < 1 else -math.inf
    rest = np.where(k == n, 0.0, (n - k) * log_rest) if disagreements < 1 else np.where(k == n, 0.0, -np.inf)
    weights = np.exp(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) + k * log_share + rest)
    critical = _critical(k, alpha)
    ahead = (1 + difference / disagreements) / 2
    possible = critical >= 0
    lower, upper = (np.where(possible, bdtr(np.maximum(critical, 0), k, share), 0.0) for share in (ahead, 1 - ahead))
    return float((weights * np.minimum(1.0, lower + upper)).sum() / weights.sum())


def _critical(k: np.ndarray, alpha: float) -> np.ndarray:
    """The most rows of the weaker side, of k, at which the exact test still finds a difference; -1 for none."""
    from scipy.special import bdtr

    return bisect_whole(lambda weaker: 2 * bdtr(weaker, k, 0.5) < alpha, np.full(len(k), -1), k // 2 + 1)


def smallest_by_mcnemar(num_rows: int, disagreements: float, alpha: float) -> float | None:
    """The least true difference of two accuracies that these rows show in 80 % of tests; None when not even 1 is.

    disagreements: their share of the rows; where a difference needs more of them, as many as it needs.
    """

    def power(difference: float) -> float:
        return mcnemar_power(num_rows, min(1.0, max(disagreements, difference)), difference, alpha)

    if power(1.0) < POWER:
        return None
    smallest, _ = bisect(lambda difference: power(difference) >= POWER, 1.0, 0.0, HALVINGS)
    return smallest


def rows_by_mcnemar(disagreements: float, difference: float, alpha: float) -> int:
    """How many rows show this true difference of two accuracies in 80 % of tests."""
    share = min(1.0, max(disagreements, difference))
    low, high = 1, 2
    while mcnemar_power(high, share, difference, alpha) < POWER and high < MOST_ROWS:
        low, high = high, 2 * high
    while high - low > max(1, high // 1000):
        middle = (low + high) // 2
        low, high = (low, middle) if mcnemar_power(middle, share, difference, alpha) >= POWER else (middle, high)
    return high


def smallest_difference(tested: Difference, disagreements: float | None, *, alpha: float) -> float | None:
    """The least true difference that 80 % of tests like this one find; None for none that the metric can have.

    disagreements: share of the rows that one side alone has right, for McNemar's test. Others are by Student's t or, of
    single runs, by the normal distribution, with the variance that was found.
    """
    if disagreements is not None:
        return smallest_by_mcnemar(tested.num_rows, disagreements, alpha)
    smallest = _distance(alpha, tested.freedom) * math.sqrt(tested.row_variance + tested.seed_variance)
    least, most = possible_values(tested.metric)
    return smallest if 0 < smallest <= most - least else None


def planned(tested: Difference, disagreements: float | None, difference: float, *, seeds: int, alpha: float) -> Plan:
    """How many rows, or seeds a side, 80 % of tests need to find this true difference."""
    if disagreements is not None:
        if difference > 1:
            raise ConfigError(f"--plan {difference:g}: the largest difference on {tested.metric} is 1.")
        return Plan(difference, rows_by_mcnemar(disagreements or difference, difference, alpha))
    allowed = (difference / _distance(alpha, tested.freedom)) ** 2  # the variance that this test may have
    if tested.method == "bootstrap":
        return Plan(difference, max(1, math.ceil(tested.num_rows * tested.row_variance / allowed)))
    left_for_rows, left_for_seeds = allowed - tested.seed_variance, allowed - tested.row_variance
    rows = math.ceil(tested.num_rows * tested.row_variance / left_for_rows) if left_for_rows > 0 else None
    needed = max(2, math.ceil(seeds * tested.seed_variance / left_for_seeds)) if left_for_seeds > 0 else None
    return Plan(difference, rows, needed, of_seeds=True)


def _distance(alpha: float, freedom: float) -> float:
    """How many standard errors a difference must be long for 80 % of two-sided tests to find it."""
    from scipy.special import ndtri, stdtrit

    if math.isinf(freedom):
        return float(ndtri(1 - alpha / 2) + ndtri(POWER))
    return float(stdtrit(freedom, 1 - alpha / 2) + stdtrit(freedom, POWER))
