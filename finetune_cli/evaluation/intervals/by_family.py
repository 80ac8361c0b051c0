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

from finetune_cli.evaluation.intervals.drawn import MIN_ROWS, drawn_intervals
from finetune_cli.evaluation.intervals.shares import Interval
from finetune_cli.evaluation.kinds import CLASS_KINDS
from finetune_cli.evaluation.metrics import check_names, compute_metrics
from finetune_cli.evaluation.scored_rows import ScoredRows
from finetune_cli.evaluation.uncertainty import bootstrap_values, percentile_interval
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.resampling import Resampling

MIN_ROWS_OF_BOOTSTRAP = 50  # below, a percentile bootstrap is too narrow (see docs/scores.md)


def score_intervals(names: Sequence[str], rows: ScoredRows, resampling: Resampling) -> dict[str, Interval | None]:
    """The interval (low, high) of each metric; None where these rows are too few for one.

    Errors as in `compute_metrics`. An interval never has width 0. The same seed gives the same interval, whatever other
    metrics are asked for. It is about the choice of these rows, not about the training run: for that see
    `summarise_seeds`.
    """
    check_names(names, rows)
    task, level = rows.task, resampling.level
    drawn = [name for name in names if name in task.count_metrics and name not in task.share_intervals]
    found = _drawn(drawn, rows, resampling) if drawn else {}
    for name in names:
        if name in task.share_intervals:
            found[name] = task.share_intervals[name](rows.labels, rows.answers, level)
        elif name in task.score_intervals:
            found[name] = task.score_intervals[name](rows.labels, rows.scores, level, resampling.seed)
        elif name not in found:
            found[name] = _by_bootstrap(name, rows, resampling)
    return found


def scored_metrics(names: Sequence[str], rows: ScoredRows, resampling: Resampling) -> dict[str, MetricValue]:
    """Each metric with its interval, see `score_intervals`; without intervals for 0 samples."""
    values = compute_metrics(names, rows)
    if not resampling.samples:
        return {name: MetricValue(value) for name, value in values.items()}
    found = score_intervals(names, rows, resampling)
    return {name: MetricValue.of(values[name], found[name]) for name in names}


def _drawn(names: Sequence[str], rows: ScoredRows, resampling: Resampling) -> dict[str, Interval | None]:
    task, n, num_classes = CLASS_KINDS[rows.kind], len(rows.labels), rows.num_classes
    enough = [
        name
        for name in names
        if n >= (task.rows_per_class * num_classes if name.endswith("_macro") else 0) and n >= MIN_ROWS
    ]
    if not enough:
        return dict.fromkeys(names)
    intervals = drawn_intervals(
        {name: task.count_metrics[name] for name in enough},
        partial(task.draw_cells, rows.labels, rows.answers, num_classes),
        partial(task.draw_cells, rows.labels, rows.labels, num_classes),
        num_rows=n,
        num_classes=num_classes,
        resampling=resampling,
    )
    return {name: intervals.get(name) for name in names}


def _by_bootstrap(name: str, rows: ScoredRows, resampling: Resampling) -> Interval | None:
    if len(rows.labels) < MIN_ROWS_OF_BOOTSTRAP:
        return None
    low, high = percentile_interval(bootstrap_values([name], [rows], resampling)[name][0], resampling.level)
    return (low, high) if np.isfinite([low, high]).all() and low < high else None
