"""Two sides against each other, on each metric: the test, its sentence, and what it could have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.commands.compared_sides import Scoring, Side
from finetune_cli.evaluation.comparison import Difference, compare_predictions, compare_seeds, mcnemar
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.metrics import metric_parts
from finetune_cli.evaluation.power import holm, planned, smallest_difference
from finetune_cli.evaluation.verdicts import describe
from finetune_cli.records.comparison import Comparison
from finetune_cli.runs.scored_runs import ScoredRun
from finetune_cli.tasks import METRICS


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
            level=scoring.level,
            plan=plan,
        )
        for number, (first, other) in enumerate(pairs)
        for name in scoring.metrics
    ]


def _differences(first: Side, other: Side, scoring: Scoring) -> dict[str, Difference]:
    differences: dict[str, Difference] = {}
    paired = sorted(first.seeds) == sorted(other.seeds)
    common: dict[str, Any] = {
        "labels": first.runs[0].labels,
        "kind": scoring.kind,
        "samples": scoring.samples,
        "level": scoring.level,
        "seed": scoring.seed,
    }
    for names, of_probabilities in metric_parts(scoring.metrics):
        a, b = ([run.scores(of_probabilities=of_probabilities) for run in side.runs] for side in (first, other))
        if len(first.runs) == 1:
            differences |= compare_predictions(names, scores_a=a[0], scores_b=b[0], **common)
            continue
        if paired:
            a, b = _by_seed(first, a), _by_seed(other, b)
        differences |= compare_seeds(names, runs_a=a, runs_b=b, paired=paired, **common)
    return differences


def _by_seed(side: Side, scores: list[Array]) -> list[Array]:
    """The scores in the order of the seeds, so that run i has the same seed on both sides."""
    return [scores[run] for run in np.argsort(side.seeds)]


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
