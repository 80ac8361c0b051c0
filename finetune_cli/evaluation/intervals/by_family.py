"""How far a score could be off because the test set is only a sample: an interval for each metric, by its family.

Shares of rows or decisions (accuracy, F1 of one class, micro averages): Jeffreys' interval. Other metrics of the
confusion matrix: cells drawn from a Dirichlet distribution. Means, correlations, ranks, calibration: closed forms, or
draws of their own. Metrics of the `evaluate` library: percentile bootstrap. Which family a metric is of, its kind of
task says (`kinds`). How often they hold the truth is measured by scripts/simulations/coverage.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.intervals.drawn import MIN_ROWS, drawn_intervals
from finetune_cli.evaluation.intervals.shares import Interval
from finetune_cli.evaluation.kinds import CLASS_KINDS, KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.metrics import check_names, check_scored_rows, compute_metrics
from finetune_cli.evaluation.uncertainty import bootstrap_values, percentile_interval
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.tasks import Kind

MIN_ROWS_OF_BOOTSTRAP = 50  # below, a percentile bootstrap is too narrow (see docs/scores.md)


def score_intervals(
    names: Sequence[str], *, labels: Array, scores: Array, kind: Kind, samples: int, level: float, seed: int
) -> dict[str, Interval | None]:
    """The interval (low, high) of each metric at this level, 0.95 for 95 %; None where these rows are too few for one.

    Labels, scores, kind and errors as in `compute_metrics`. An interval never has width 0. The same seed gives the same
    interval, whatever other metrics are asked for. It is about the choice of these rows, not about the training run:
    for that see `summarise_seeds`.
    """
    task = KINDS[kind]
    labels, scores = check_scored_rows(labels, scores, kind=kind)
    check_names(names, scores, kind=kind)
    answers = task.answers(scores)
    found: dict[str, Interval | None] = {}
    drawn = [name for name in names if name in task.count_metrics and name not in task.share_intervals]
    if drawn:
        found |= _drawn(drawn, labels, answers, scores.shape[1], kind, samples=samples, level=level, seed=seed)
    for name in names:
        if name in task.share_intervals:
            found[name] = task.share_intervals[name](labels, answers, level)
        elif name in task.score_intervals:
            found[name] = task.score_intervals[name](labels, scores, level, seed)
        elif name not in found:
            found[name] = _by_bootstrap(name, labels, scores, kind, samples=samples, level=level, seed=seed)
    return found


def scored_metrics(
    names: Sequence[str], *, labels: Array, scores: Array, kind: Kind, samples: int, level: float, seed: int
) -> dict[str, MetricValue]:
    """Each metric with its interval, see `score_intervals`; without intervals for 0 samples."""
    values = compute_metrics(names, labels=labels, scores=scores, kind=kind)
    if not samples:
        return {name: MetricValue(value) for name, value in values.items()}
    found = score_intervals(names, labels=labels, scores=scores, kind=kind, samples=samples, level=level, seed=seed)
    return {name: MetricValue.of(values[name], found[name]) for name in names}


def _drawn(
    names: Sequence[str],
    labels: Array,
    answers: Array,
    num_classes: int,
    kind: Kind,
    *,
    samples: int,
    level: float,
    seed: int,
) -> dict[str, Interval | None]:
    task, n = CLASS_KINDS[kind], len(labels)
    enough = [
        name
        for name in names
        if n >= (task.rows_per_class * num_classes if name.endswith("_macro") else 0) and n >= MIN_ROWS
    ]
    if not enough:
        return dict.fromkeys(names)
    intervals = drawn_intervals(
        {name: task.count_metrics[name] for name in enough},
        partial(task.draw_cells, labels, answers, num_classes),
        partial(task.draw_cells, labels, labels, num_classes),
        num_rows=n,
        num_classes=num_classes,
        samples=samples,
        level=level,
        seed=seed,
    )
    return {name: intervals.get(name) for name in names}


def _by_bootstrap(
    name: str, labels: Array, scores: FloatArray, kind: Kind, *, samples: int, level: float, seed: int
) -> Interval | None:
    if len(labels) < MIN_ROWS_OF_BOOTSTRAP:
        return None
    values = bootstrap_values([name], labels=labels, score_sets=[scores], kind=kind, samples=samples, seed=seed)
    low, high = percentile_interval(values[name][0], level)
    return (low, high) if np.isfinite([low, high]).all() and low < high else None
