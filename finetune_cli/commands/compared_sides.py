"""The sides of a comparison: which runs belong together, and the scores of each side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_cli.config.dump import to_yaml
from finetune_cli.errors import ConfigError
from finetune_cli.evaluation.intervals.by_family import scored_metrics
from finetune_cli.evaluation.metrics import metric_parts
from finetune_cli.evaluation.seed_summary import summarise_seeds
from finetune_cli.records.comparison import ComparedSide
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.runs.scored_runs import ScoredRun, metric_values, variances_over_rows
from finetune_cli.tasks import Kind

Side = list[ScoredRun]  # one run, or the runs of one setting with different seeds


@dataclass(frozen=True)
class Scoring:
    """How all sides are scored, and the size, level and seed of the bootstrap that compares them."""

    metrics: tuple[str, ...]
    kind: Kind
    samples: int
    level: float
    seed: int


def sides_by_setting(runs: Sequence[ScoredRun]) -> list[Side]:
    """Runs of one setting together, when there are two settings or more with two seeds or more each."""
    alone = [[run] for run in runs]
    settings: dict[str, Side] = {}
    for run in runs:
        if run.config is None:
            return alone
        setting = to_yaml(run.config.model_copy(update={"seed": 0, "output_dir": "", "tracking": (), "hub": None}))
        settings.setdefault(setting, []).append(run)
    sides = list(settings.values())
    repeated = len(sides) > 1 and all(len(side) > 1 and len(set(seeds_of(side))) == len(side) for side in sides)
    return sides if repeated else alone


def seed_sides(groups: list[Side]) -> list[Side]:
    """The sides as they were named; two or more seeds each."""
    for group in groups:
        if len(group) < 2:
            raise ConfigError(
                f"{group[0].name} is one run, and another side has several seeds. Compare it with one of those, such "
                f"as {next(group[0].name for group in groups if len(group) > 1)}, or train it with several seeds, too."
            )
    return groups


def seeds_of(side: Side) -> list[int]:
    return [run.config.seed for run in side if run.config is not None]


def scored_side(name: str, side: Side, scoring: Scoring) -> ComparedSide:
    """A run's scores with their intervals; of several seeds the means, with Student's t intervals."""
    if len(side) == 1:
        return ComparedSide(
            name, [side[0].name], seeds_of(side), _with_intervals(side[0], scoring), collapsed=_collapsed(side)
        )
    values = [metric_values(run, scoring.metrics) for run in side]
    of_rows = variances_over_rows(side, scoring.metrics, samples=scoring.samples, seed=scoring.seed)
    summaries = {
        metric: summarise_seeds(
            [of_run[metric] for of_run in values], level=scoring.level, row_variance=of_rows[metric]
        )
        for metric in scoring.metrics
    }
    return ComparedSide(
        name,
        [run.name for run in side],
        seeds_of(side),
        {metric: _metric_value(one.mean, one.low, one.high) for metric, one in summaries.items()},
        {metric: one.sd for metric, one in summaries.items()},
        _collapsed(side),
    )


def _collapsed(side: Side) -> dict[str, str]:
    return {run.name: run.collapsed for run in side if run.collapsed is not None}


def _with_intervals(run: ScoredRun, scoring: Scoring) -> dict[str, MetricValue]:
    """The intervals are those that `finetune evaluate` printed: drawn with the run's own seed."""
    found: dict[str, MetricValue] = {}
    for names, of_probabilities in metric_parts(scoring.metrics):
        found |= scored_metrics(
            names,
            labels=run.labels,
            scores=run.scores(of_probabilities=of_probabilities),
            kind=scoring.kind,
            samples=scoring.samples,
            level=scoring.level,
            seed=run.config.seed if run.config is not None else 0,
        )
    return {name: found[name] for name in scoring.metrics}


def _metric_value(value: float, low: float, high: float) -> MetricValue:
    return MetricValue(value) if math.isnan(low) else MetricValue(value, low, high)
