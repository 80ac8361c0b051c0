"""Two sides against each other, on each metric: the test, its sentence, and what it could have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from finetune_cli.commands.compared_sides import Scoring, Side, seeds_of
from finetune_cli.evaluation.comparison import Difference, McNemar, compare_predictions, compare_seeds, mcnemar
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.metrics import metric_parts
from finetune_cli.evaluation.power import holm, planned, smallest_difference
from finetune_cli.evaluation.verdicts import describe
from finetune_cli.records.comparison import Comparison
from finetune_cli.runs.scored_runs import ScoredRun
from finetune_cli.tasks import METRICS


class NamedSide(NamedTuple):
    name: str
    runs: Side


def comparisons(
    sides: Sequence[Side], names: Sequence[str], pairs: Sequence[tuple[int, int]], scoring: Scoring, plan: float | None
) -> list[Comparison]:
    """The second side of each pair against its first, one metric after the other; p values adjusted for the pairs."""
    found = [_differences(sides[a], sides[b], scoring) for a, b in pairs]
    adjusted = {name: holm([one[name].p_value for one in found]) for name in scoring.metrics}
    return [
        _comparison(
            found[number][name],
            NamedSide(names[a], sides[a]),
            NamedSide(names[b], sides[b]),
            p_adjusted=adjusted[name][number],
            family=len(pairs),
            level=scoring.level,
            plan=plan,
        )
        for number, (a, b) in enumerate(pairs)
        for name in scoring.metrics
    ]


def _differences(first: Side, other: Side, scoring: Scoring) -> dict[str, Difference]:
    differences: dict[str, Difference] = {}
    for names, of_probabilities in metric_parts(scoring.metrics):
        runs_a, runs_b = ([run.scores(of_probabilities=of_probabilities) for run in side] for side in (first, other))
        common: dict[str, Any] = {
            "labels": first[0].labels,
            "kind": scoring.kind,
            "samples": scoring.samples,
            "level": scoring.level,
            "seed": scoring.seed,
        }
        if len(first) == 1:
            differences |= compare_predictions(names, scores_a=runs_a[0], scores_b=runs_b[0], **common)
            continue
        paired = sorted(seeds_of(first)) == sorted(seeds_of(other))
        if paired:
            runs_a, runs_b = _by_seed(first, runs_a), _by_seed(other, runs_b)
        differences |= compare_seeds(names, runs_a=runs_a, runs_b=runs_b, paired=paired, **common)
    return differences


def _by_seed(side: Side, scores: list[Array]) -> list[Array]:
    """The scores in the order of the seeds, so that run i has the same seed on both sides."""
    return [scores[run] for run in np.argsort(seeds_of(side))]


def _comparison(
    found: Difference,
    first: NamedSide,
    other: NamedSide,
    *,
    p_adjusted: float,
    family: int,
    level: float,
    plan: float | None,
) -> Comparison:
    """plan: see `compare`. Where runs are a family, power is that of its strictest test."""
    greater_is_better = found.metric not in METRICS or METRICS[found.metric].greater_is_better
    counts = _disagreements(first.runs[0], other.runs[0]) if found.method == "mcnemar" else None
    disagreements = None if counts is None else (counts.only_a + counts.only_b) / found.num_rows
    alpha = (1 - level) / family
    verdict = _verdict(found, p_adjusted, level, greater_is_better=greater_is_better)
    return Comparison(
        metric=found.metric,
        a=first.name,
        b=other.name,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        p_adjusted=p_adjusted,
        method=found.method,
        verdict=verdict,
        sentence=_why_equal(found, first, other)
        or describe(
            found,
            greater_is_better=greater_is_better,
            level=level,
            a=first.name,
            b=other.name,
            p_adjusted=p_adjusted,
            family=family,
        ),
        only_a=None if counts is None else counts.only_a,
        only_b=None if counts is None else counts.only_b,
        detectable=smallest_difference(found, disagreements, alpha=alpha),
        disagreements=disagreements,
        plan=None
        if plan is None or verdict == "undefined"
        else planned(found, disagreements, plan, seeds=len(first.runs), alpha=alpha),
    )


def _disagreements(first: ScoredRun, other: ScoredRun) -> McNemar:
    right_a, right_b = (KINDS[run.kind].right(run.labels, run.predictions) for run in (first, other))
    return mcnemar(right_a, right_b)


def _verdict(found: Difference, p_adjusted: float, level: float, *, greater_is_better: bool) -> str:
    if math.isnan(found.p_value):
        return "undefined"
    if p_adjusted >= 1 - level or found.difference == 0:
        return "no difference"
    return "better" if (found.difference > 0) == greater_is_better else "worse"


def _why_equal(found: Difference, first: NamedSide, other: NamedSide) -> str | None:
    """A sentence for two single runs that answer every row alike."""
    run_a, run_b = first.runs[0], other.runs[0]
    if found.method == "seeds" or found.difference != 0 or not _same_answers(run_a, run_b):
        return None
    same_run = Path(run_a.name).resolve() == Path(run_b.name).resolve()
    reason = f"is the same run as {first.name}" if same_run else f"answers every row exactly as {first.name} does"
    return f"No difference on {found.metric}: {other.name} {reason}."


def _same_answers(first: ScoredRun, other: ScoredRun) -> bool:
    if first.probabilities is None or other.probabilities is None:
        return np.array_equal(first.predictions, other.predictions)
    return np.array_equal(first.probabilities, other.probabilities)
