"""The sides of a comparison: which runs belong together, their scores, and two sides against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from finetune_cli.config.changes import changed
from finetune_cli.config.dump import to_yaml
from finetune_cli.errors import ConfigError
from finetune_cli.evaluation.comparison import Difference, compare_predictions, compare_seeds, mcnemar
from finetune_cli.evaluation.intervals.by_family import scored_metrics
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.power import holm, planned, smallest_difference
from finetune_cli.evaluation.seed_summary import row_variances, summarise_seeds, within_range
from finetune_cli.evaluation.verdicts import describe
from finetune_cli.records.comparison import ComparedSide, Comparison
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.plain import plain
from finetune_cli.records.resampling import Resampling
from finetune_cli.runs.scored_runs import ScoredRun
from finetune_cli.tasks import METRICS

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Side:
    """One run, or the runs of one setting with different seeds."""

    name: str
    runs: list[ScoredRun]

    @property
    def seeds(self) -> list[int]:
        return [run.config.seed for run in self.runs if run.config is not None]


@dataclass(frozen=True)
class Scoring:
    """How all sides are scored and compared."""

    metrics: tuple[str, ...]
    resampling: Resampling


def sides_of(groups: Sequence[list[ScoredRun]]) -> list[Side]:
    """The sides, with their names. groups: of each directory or file that was named, its runs.

    Single runs of one setting are a side together, when there are two settings or more with two seeds or more each;
    otherwise each is one. Raises ConfigError where one group has several seeds and another a single run.
    """
    alone = [group for group in groups if len(group) == 1]
    several = [group for group in groups if len(group) > 1]
    if several and alone:
        raise ConfigError(
            f"{alone[0][0].name} is one run, and another side has several seeds. Compare it with one of those, such "
            f"as {several[0][0].name}, or train it with several seeds, too."
        )
    groups = several or _by_setting([group[0] for group in alone]) or alone
    return [Side(LETTERS[n] if n < len(LETTERS) else f"R{n + 1}", group) for n, group in enumerate(groups)]


def _by_setting(runs: Sequence[ScoredRun]) -> list[list[ScoredRun]] | None:
    """Runs of one setting together; None when that does not make two sides or more of several seeds each."""
    settings: dict[str, list[ScoredRun]] = {}
    for run in runs:
        if run.config is None:
            return None
        setting = changed(run.config, {"seed": 0, "output_dir": "", "tracking": (), "hub": None})
        settings.setdefault(to_yaml(setting), []).append(run)
    groups = list(settings.values())
    repeated = [len({run.config.seed for run in group if run.config}) == len(group) > 1 for group in groups]
    return groups if len(groups) > 1 and all(repeated) else None


def scored_side(side: Side, scoring: Scoring) -> ComparedSide:
    """A run's scores with their intervals; of several seeds the means, with Student's t intervals."""
    names = [run.name for run in side.runs]
    collapsed = {run.name: run.collapsed for run in side.runs if run.collapsed is not None}
    if len(side.runs) == 1:
        return ComparedSide(side.name, names, side.seeds, _with_intervals(side.runs[0], scoring), collapsed=collapsed)
    values = [compute_metrics(scoring.metrics, run.rows) for run in side.runs]
    of_rows = row_variances(scoring.metrics, [run.rows for run in side.runs], scoring.resampling)
    means, sds = {}, {}
    for metric in scoring.metrics:
        of_runs = [of_run[metric] for of_run in values]
        summary = within_range(
            summarise_seeds(of_runs, level=scoring.resampling.level, row_variance=of_rows[metric]), metric
        )
        means[metric] = MetricValue(summary.mean, plain(summary.low), plain(summary.high))
        sds[metric] = summary.sd
    return ComparedSide(side.name, names, side.seeds, means, sds, collapsed)


def _with_intervals(run: ScoredRun, scoring: Scoring) -> dict[str, MetricValue]:
    """The intervals are those that `finetune evaluate` printed: drawn as the run's own config says."""
    own = scoring.resampling if run.config is None else run.config.resampling.to_compare
    return scored_metrics(scoring.metrics, run.rows, replace(own, level=scoring.resampling.level))


def comparisons(pairs: Sequence[tuple[Side, Side]], scoring: Scoring, plan: float | None) -> list[Comparison]:
    """The second side of each pair against its first, one metric after the other; p values adjusted for the pairs."""
    differences = [_differences(first, other, scoring) for first, other in pairs]
    adjusted = {name: holm([of_pair[name].p_value for of_pair in differences]) for name in scoring.metrics}
    return [
        _comparison(
            differences[number][name],
            first,
            other,
            p_adjusted=adjusted[name][number],
            family=len(pairs),
            level=scoring.resampling.level,
            plan=plan,
        )
        for number, (first, other) in enumerate(pairs)
        for name in scoring.metrics
    ]


def _differences(first: Side, other: Side, scoring: Scoring) -> dict[str, Difference]:
    if len(first.runs) == 1:
        return compare_predictions(scoring.metrics, first.runs[0].rows, other.runs[0].rows, scoring.resampling)
    paired = sorted(first.seeds) == sorted(other.seeds)
    a, b = ([run.rows for run in (_by_seed(side) if paired else side.runs)] for side in (first, other))
    return compare_seeds(scoring.metrics, a, b, scoring.resampling, paired=paired)


def _by_seed(side: Side) -> list[ScoredRun]:
    """The runs in the order of the seeds, so that run i has the same seed on both sides."""
    return [side.runs[number] for number in np.argsort(side.seeds)]


def _comparison(
    difference: Difference,
    first: Side,
    other: Side,
    *,
    p_adjusted: float,
    family: int,
    level: float,
    plan: float | None,
) -> Comparison:
    """plan: see `compare`. Where runs are a family, power is that of its strictest test."""
    greater_is_better = difference.metric not in METRICS or METRICS[difference.metric].greater_is_better
    counts = mcnemar(first.runs[0].correct(), other.runs[0].correct()) if difference.method == "mcnemar" else None
    disagreements = None if counts is None else (counts.only_a + counts.only_b) / difference.num_rows
    alpha = (1 - level) / family
    verdict = _verdict(difference, p_adjusted, level, greater_is_better=greater_is_better)
    return Comparison(
        metric=difference.metric,
        a=first.name,
        b=other.name,
        difference=difference.difference,
        low=difference.low,
        high=difference.high,
        p_value=difference.p_value,
        p_adjusted=p_adjusted,
        method=difference.method,
        verdict=verdict,
        sentence=_why_equal(difference, first, other)
        or describe(
            difference,
            greater_is_better=greater_is_better,
            level=level,
            a=first.name,
            b=other.name,
            p_adjusted=p_adjusted,
            family=family,
        ),
        only_a=None if counts is None else counts.only_a,
        only_b=None if counts is None else counts.only_b,
        detectable=smallest_difference(difference, disagreements, alpha=alpha),
        disagreements=disagreements,
        plan=None
        if plan is None or verdict == "undefined"
        else planned(difference, disagreements, plan, seeds=len(first.runs), alpha=alpha),
    )


def _verdict(difference: Difference, p_adjusted: float, level: float, *, greater_is_better: bool) -> str:
    if math.isnan(difference.p_value):
        return "undefined"
    if p_adjusted >= 1 - level or difference.difference == 0:
        return "no difference"
    return "better" if (difference.difference > 0) == greater_is_better else "worse"


def _why_equal(difference: Difference, first: Side, other: Side) -> str | None:
    """A sentence for two single runs that answer every row alike."""
    run_a, run_b = first.runs[0], other.runs[0]
    if difference.method == "seeds" or difference.difference != 0 or not _same_answers(run_a, run_b):
        return None
    same_run = Path(run_a.name).resolve() == Path(run_b.name).resolve()
    reason = f"is the same run as {first.name}" if same_run else f"answers every row exactly as {first.name} does"
    return f"No difference on {difference.metric}: {other.name} {reason}."


def _same_answers(first: ScoredRun, other: ScoredRun) -> bool:
    if first.probabilities is None or other.probabilities is None:
        return np.array_equal(first.predictions, other.predictions)
    return np.array_equal(first.probabilities, other.probabilities)
