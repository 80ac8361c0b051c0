"""Is one set of predictions better than another on the same rows, or is it chance?

Rows are paired: both sides are scored on the same resamples, so that rows which are easy or hard for both cancel.

Dimensions: N rows, S resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune_cli.errors import counted
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.student_t import t_quantile, t_two_sided_p
from finetune_cli.evaluation.uncertainty import bootstrap_values, percentile_interval
from finetune_cli.tasks import Kind

EXACT_DISAGREEMENTS = 1000  # up to here the binomial sum is exact and takes under a millisecond
MAX_FREEDOM = 1000  # where t is the normal distribution to three digits


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


@dataclass(frozen=True)
class SeedSummary:
    """The scores of runs that differ in their seed alone. sd has n - 1 in its denominator; nan for one run."""

    values: tuple[float, ...]
    mean: float
    sd: float
    low: float
    high: float


def mcnemar(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> McNemar:
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
    names: Sequence[str],
    *,
    labels: Array,
    scores_a: Array,
    scores_b: Array,
    kind: Kind,
    samples: int,
    level: float,
    seed: int,
) -> dict[str, Difference]:
    """B against A on each metric: accuracy (of several labels a row, all right) by McNemar's test, the rest by paired
    bootstrap. Intervals by bootstrap.

    Labels, scores, kind and errors as in `compute_metrics`; row i is the same example in both. Resamples in which the
    metric is not defined for both are left out.

    Of simulated test sets with two equally good models, 60 to 3,000 rows each, F1, Matthews, AUROC and log loss called
    3 to 6 % different at the 5 % level. Accuracy (2 % at 60 rows, 3.5 % at 408, 4.6 % at 3,000) and ECE (0.2 to 3.4 %)
    err towards "no difference".
    """
    values = bootstrap_values(
        names, labels=labels, score_sets=[scores_a, scores_b], kind=kind, samples=samples, seed=seed
    )
    a = compute_metrics(names, labels=labels, scores=scores_a, kind=kind)
    b = compute_metrics(names, labels=labels, scores=scores_b, kind=kind)
    differences = {}
    for name in names:
        resampled = values[name][1] - values[name][0]
        low, high = percentile_interval(resampled, level)
        p_value, method = _bootstrap_p(resampled), "bootstrap"
        if name == "accuracy":
            task = KINDS[kind]
            right_a, right_b = (task.right(labels, task.answers(scores)) for scores in (scores_a, scores_b))
            p_value, method = mcnemar(right_a, right_b).p_value, "mcnemar"
        variance = _variance(resampled)
        differences[name] = Difference(
            name, a[name], b[name], b[name] - a[name], low, high, p_value, len(labels), method, variance
        )
    return differences


def compare_seeds(
    names: Sequence[str],
    *,
    labels: Array,
    runs_a: Sequence[Array],
    runs_b: Sequence[Array],
    kind: Kind,
    samples: int,
    level: float,
    seed: int,
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
    sets = [*runs_a, *runs_b]
    resampled = bootstrap_values(names, labels=labels, score_sets=sets, kind=kind, samples=samples, seed=seed)
    scores = [compute_metrics(names, labels=labels, scores=scores, kind=kind) for scores in sets]
    differences = {}
    for name in names:
        values = np.array([of_run[name] for of_run in scores])
        a, b = values[:num_a], values[num_a:]
        of_rows = _variance_over_rows(resampled[name][:num_a], resampled[name][num_a:])
        parts = [b - a] if paired else [a, b]
        sizes = [len(part) for part in parts]
        variance, freedom = _welch([float(part.var(ddof=1)) / len(part) for part in parts], sizes, of_rows)
        difference, error = float(b.mean() - a.mean()), math.sqrt(variance)
        margin = t_quantile(level, freedom) * error
        differences[name] = Difference(
            name,
            float(a.mean()),
            float(b.mean()),
            difference,
            difference - margin,
            difference + margin,
            _t_p(difference, error, freedom),
            len(labels),
            "seeds",
            of_rows,
            variance - of_rows,
            freedom,
        )
    return differences


def row_variances(
    names: Sequence[str], *, labels: Array, runs: Sequence[Array], kind: Kind, samples: int, seed: int
) -> dict[str, float]:
    """The variance of each metric's mean over runs that comes from the choice of rows: all on the same resamples."""
    resampled = bootstrap_values(names, labels=labels, score_sets=runs, kind=kind, samples=samples, seed=seed)
    return {name: _variance(values.mean(axis=0)) for name, values in resampled.items()}


def summarise_seeds(values: Sequence[float], *, level: float, row_variance: float = 0.0) -> SeedSummary:
    """Mean, standard deviation and Student's t interval of the mean of one score over seeds.

    row_variance: of the mean, from the choice of rows (see `row_variances`); with it the interval covers that too, as
    in `compare_seeds`. Student's t, not a bootstrap: of 3 to 5 values a bootstrap interval cannot leave their range and
    is far too narrow (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 4.1). One run has no
    interval (nan).
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return SeedSummary(tuple(values), mean, math.nan, math.nan, math.nan)
    sd = float(array.std(ddof=1))
    variance, freedom = _welch([sd**2 / len(array)], [len(array)], row_variance)
    margin = t_quantile(level, freedom) * math.sqrt(variance)
    return SeedSummary(tuple(values), mean, sd, mean - margin, mean + margin)


def describe(
    difference: Difference,
    *,
    greater_is_better: bool,
    level: float,
    a: str = "A",
    b: str = "B",
    p_adjusted: float | None = None,
    family: int = 1,
) -> str:
    """One plain sentence, decided by the p value at 1 - level: the adjusted one where there are several comparisons."""
    d = difference
    p_value = d.p_value if p_adjusted is None else p_adjusted
    if math.isnan(p_value):
        rows = f"these {counted(d.num_rows, 'row', form=',')}" if d.num_rows > 1 else "this row"
        return f"{d.metric} is not defined on {rows}."
    p_text = _p_text(d, p_value, family)
    if p_value >= 1 - level or d.difference == 0:
        return (
            f"No difference on {d.metric} that {counted(d.num_rows, 'row', form=',')} can show: {b} - {a} = "
            f"{d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}], {p_text}."
        )
    b_wins = (d.difference > 0) == greater_is_better
    winner, loser = (b, a) if b_wins else (a, b)
    low, high = (d.low, d.high) if d.difference > 0 else (-d.high, -d.low)
    direction = "" if greater_is_better else " (lower is better)"
    return (
        f"{winner} is better than {loser} on {d.metric}{direction} by "
        f"{abs(d.difference):.3f} [{low:.3f}, {high:.3f}], {p_text}."
    )


def _bootstrap_p(differences: NDArray[np.float64]) -> float:
    """Twice the share of resamples (S,) on the thinner side of 0, those at 0 counting half; never exactly 0."""
    defined = differences[~np.isnan(differences)]
    if len(defined) == 0:
        return math.nan
    unchanged = (defined == 0).sum() / 2
    thinner = min((defined < 0).sum(), (defined > 0).sum()) + unchanged
    return min(1.0, 2 * float(thinner + 1) / (len(defined) + 1))


def _variance_over_rows(resampled_a: NDArray[np.float64], resampled_b: NDArray[np.float64]) -> float:
    """Variance over resamples of the difference of the means over runs, each side (runs, S); nan left out."""
    return _variance(resampled_b.mean(axis=0) - resampled_a.mean(axis=0))


def _variance(resampled: NDArray[np.float64]) -> float:
    """Of values (S,), nan left out."""
    defined = resampled[~np.isnan(resampled)]
    return float(defined.var()) if len(defined) else math.nan


def _welch(variances: Sequence[float], sizes: Sequence[int], of_rows: float) -> tuple[float, int]:
    """Variance of the difference and its degrees of freedom; `variances` are of means of `sizes` runs."""
    total = sum(variances) + of_rows
    uncertain = sum(variance**2 / (size - 1) for variance, size in zip(variances, sizes, strict=True))
    if uncertain == 0 or math.isnan(total):
        return total, MAX_FREEDOM
    return total, int(min(MAX_FREEDOM, max(1, total**2 / uncertain)))


def _t_p(difference: float, error: float, freedom: int) -> float:
    if math.isnan(difference) or math.isnan(error):
        return math.nan
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return t_two_sided_p(difference / error, freedom)


def _p_text(found: Difference, p_value: float, family: int) -> str:
    """The p value; of McNemar's test with the names of both methods, since they can disagree near the level."""
    text = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
    notes = ["interval: bootstrap, p: McNemar's test"] if found.method == "mcnemar" else []
    if family > 1:
        notes.append(f"adjusted for {family} comparisons, alone {found.p_value:.2g}")
    return f"{text} ({'; '.join(notes)})" if notes else text
