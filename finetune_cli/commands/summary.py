"""Mean, spread and interval of every score over several runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from finetune_cli.evaluation.seed_summary import SeedSummary
from finetune_cli.records.evaluation import EvalReport, MetricValue
from finetune_cli.records.training import SeedScore, SplitSummary, TrainReport

Summarise = Callable[[str, str, Sequence[float]], SeedSummary]  # of a split's score and its values


def summarise_splits(runs: Mapping[int, TrainReport], summarise: Summarise) -> list[SplitSummary]:
    """Every score of each split, "loss" too, over the runs."""
    names = [report.split for report in next(iter(runs.values())).evaluations] if runs else []
    return [_split_summary({key: scores_of(run, name) for key, run in runs.items()}, summarise) for name in names]


def means(split: SplitSummary) -> dict[str, MetricValue]:
    return {name: MetricValue(one.mean, _or_none(one.low), _or_none(one.high)) for name, one in split.metrics.items()}


def _split_summary(reports: dict[int, EvalReport], summarise: Summarise) -> SplitSummary:
    first = next(iter(reports.values()))
    values = {name: {key: one.metrics[name].value for key, one in reports.items()} for name in first.metrics}
    values["loss"] = {key: one.loss for key, one in reports.items()}
    collapsed = {key: one.collapsed for key, one in reports.items() if one.collapsed is not None}
    scores = {name: _score(one, partial(summarise, first.split, name)) for name, one in values.items()}
    return SplitSummary(first.split, first.n, scores, collapsed)


def _score(values: dict[int, float], summarise: Callable[[Sequence[float]], SeedSummary]) -> SeedScore:
    found = summarise(list(values.values()))
    return SeedScore(found.mean, found.sd, found.low, found.high, values)


def scores_of(run: TrainReport, split: str) -> EvalReport:
    return next(report for report in run.evaluations if report.split == split)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
