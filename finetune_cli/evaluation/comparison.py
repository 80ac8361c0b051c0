"""Is one set of predictions better than another on the same rows, or is it chance?

Rows are paired: both sides are scored on the same resamples, so that rows which are easy or hard for both cancel.

Dimensions: N rows, S resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.kinds.base import BoolArray
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import ScoredRows
from finetune_cli.evaluation.seed_summary import two_sided_t, variance, welch
from finetune_cli.evaluation.uncertainty import bootstrap_values, percentile_interval
from finetune_cli.records.resampling import Resampling
from finetune_cli.tasks import METRICS, possible_values

FEWEST_ROWS_OF_BOOTSTRAP = 20  # with fewer its p is far below that of McNemar's exact test
EXACT_DISAGREEMENTS = 1000  # up to here the binomial sum is exact and takes under a millisecond


@dataclass(frozen=True)
class McNemar:
    """Rows that only one side has right, and how likely so uneven a split is if both are equally good.

    exact: from the binomial distribution; else chi-squared with continuity correction.
    """

    only_a: int
    only_b: int
    p_value: float
    exact: bool


@dataclass(frozen=True)
class Difference:
    """B against A on one metric. difference = b - a, with its interval; p_value is two-sided.

    method: "mcnemar" | "bootstrap" | "seeds", what p_value comes from. row_variance, seed_variance: of the difference,
    from the choice of rows and of seeds; freedom: degrees of freedom of a test by Student's t.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float
    num_rows: int
    method: str
    row_variance: float = 0.0
    seed_variance: float = 0.0
    freedom: float = math.inf


def mcnemar(correct_a: BoolArray, correct_b: BoolArray) -> McNemar:
    """McNemar's test on the rows (N,) that A and B have right.

    Up to 1,000 disagreements the exact two-sided binomial test, above that chi-squared with Edwards' continuity
    correction, which by then agrees to three digits. Exact means: errs on the side of "no difference", the more so the
    fewer the disagreements.
    """
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    disagreements = only_a + only_b
    if disagreements <= EXACT_DISAGREEMENTS:
        tail = sum(math.comb(disagreements, k) for k in range(min(only_a, only_b) + 1))
        return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**disagreements), exact=True)
    chi_squared = max(abs(only_a - only_b) - 1, 0) ** 2 / disagreements
    return McNemar(only_a, only_b, math.erfc(math.sqrt(chi_squared / 2)), exact=False)


def compare_predictions(
    names: Sequence[str], a: ScoredRows, b: ScoredRows, resampling: Resampling, *, beyond_the_rows: bool = True
) -> dict[str, Difference]:
    """B against A on each metric: accuracy (of several labels a row, all right) by McNemar's test, the rest by paired
    bootstrap. Intervals by bootstrap.

    Below 20 rows the bootstrap has no interval and no p (nan): it cannot see beyond the rows it has.
    Row i is the same example in both. Resamples in which the metric is not defined for both are left out.
    beyond_the_rows: an interval has a width also where all resamples agree, see `_with_a_width`, and few rows have
    none; an export's proof is about these rows alone.

    Of simulated test sets with two equally good models, 60 to 3,000 rows each, F1, Matthews, AUROC and log loss called
    3 to 6 % different at the 5 % level. Accuracy (2 % at 60 rows, 3.5 % at 408, 4.6 % at 3,000) and ECE (0.2 to 3.4 %)
    err towards "no difference".
    """
    values, num_rows = bootstrap_values(names, [a, b], resampling), len(a.labels)
    of_a, of_b = compute_metrics(names, a), compute_metrics(names, b)
    differences = {}
    for name in names:
        here, there = of_a[name], of_b[name]
        resampled = values[name][1] - values[name][0]
        low, high = percentile_interval(resampled, resampling.level)
        if beyond_the_rows and low == high and name in METRICS:
            low, high = _with_a_width(low, METRICS[name].span, num_rows, resampling.level)
        p_value, method = _bootstrap_p(resampled), "bootstrap"
        if name == "accuracy":
            p_value, method = mcnemar(a.right(), b.right()).p_value, "mcnemar"
        elif beyond_the_rows and num_rows < FEWEST_ROWS_OF_BOOTSTRAP and there != here:
            low = high = p_value = math.nan
        differences[name] = Difference(
            name, here, there, there - here, low, high, p_value, num_rows, method, variance(resampled)
        )
    return differences


def _with_a_width(
    difference: float, span: tuple[float, float] | None, num_rows: int, level: float
) -> tuple[float, float]:
    """Resamples show only what some row shows. Where none differs, a share of 1 - (alpha / 2)^(1 / N) of all rows may
    still do so (Clopper and Pearson 1934, none of N), and move a metric of this span by as much of it. Without a span
    as it was."""
    if span is None:
        return difference, difference
    width = span[1] - span[0]
    reach = (1 - ((1 - level) / 2) ** (1 / num_rows)) * width
    return max(-width, difference - reach), min(width, difference + reach)


def compare_seeds(
    names: Sequence[str],
    runs_a: Sequence[ScoredRows],
    runs_b: Sequence[ScoredRows],
    resampling: Resampling,
    *,
    paired: bool,
) -> dict[str, Difference]:
    """Setting B against setting A, each trained with several seeds: two or more runs a side, all on the same rows.

    Two things are left to chance, the seed and the choice of test rows, and both enter: the variance of the difference
    of the means is the seeds' (two-sample, or of the differences if `paired`: run i of both sides has the same seed)
    plus the rows' (bootstrap over rows, all runs on the same resamples). Interval and p are Student's t with Welch and
    Satterthwaite's degrees of freedom, rounded down. Rows alone would call lucky seeds an improvement; seeds alone
    would call a lucky test set one (Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks").
    """
    num_a, num_b = len(runs_a), len(runs_b)
    if min(num_a, num_b) < 2 or (paired and num_a != num_b):
        raise ValueError(f"two or more runs a side, equally many if paired; got {num_a} and {num_b}")
    runs = [*runs_a, *runs_b]
    resampled, scores = bootstrap_values(names, runs, resampling), [compute_metrics(names, run) for run in runs]
    differences = {}
    for name in names:
        values = np.array([of_run[name] for of_run in scores])
        of_side_a, of_side_b = (resampled[name][side].mean(axis=0) for side in (slice(num_a), slice(num_a, None)))
        of_rows = variance(of_side_b - of_side_a)
        differences[name] = _over_seeds(
            name,
            values[:num_a],
            values[num_a:],
            of_rows,
            num_rows=len(runs[0].labels),
            level=resampling.level,
            paired=paired,
        )
    return differences


def _over_seeds(
    metric: str, a: FloatArray, b: FloatArray, of_rows: float, *, num_rows: int, level: float, paired: bool
) -> Difference:
    """One metric, by its values for the runs of each side. of_rows: the variance from the choice of rows."""
    parts = [b - a] if paired else [a, b]
    sizes = [len(part) for part in parts]
    total, freedom = welch([float(part.var(ddof=1)) / len(part) for part in parts], sizes, of_rows)
    difference, error = float(b.mean() - a.mean()), math.sqrt(total)
    margin, (least, most) = two_sided_t(level, freedom) * error, possible_values(metric)
    return Difference(
        metric,
        float(a.mean()),
        float(b.mean()),
        difference,
        float(np.clip(difference - margin, least - most, most - least)),
        float(np.clip(difference + margin, least - most, most - least)),
        t_test_p(difference, error, freedom),
        num_rows,
        "seeds",
        of_rows,
        total - of_rows,
        freedom,
    )


def _bootstrap_p(differences: FloatArray) -> float:
    """Twice the share of resamples (S,) on the thinner side of 0, those at 0 counting half; never exactly 0."""
    defined = differences[~np.isnan(differences)]
    if len(defined) == 0:
        return math.nan
    unchanged = (defined == 0).sum() / 2
    thinner = min((defined < 0).sum(), (defined > 0).sum()) + unchanged
    return min(1.0, 2 * float(thinner + 1) / (len(defined) + 1))


def t_test_p(difference: float, error: float, freedom: int) -> float:
    """Two-sided, of Student's t; error: the standard error of the difference, 0 where all runs agree."""
    from scipy.special import stdtr

    if math.isnan(difference) or math.isnan(error):
        return math.nan
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stdtr(freedom, -abs(difference / error)))
