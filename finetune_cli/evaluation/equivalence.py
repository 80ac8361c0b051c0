"""Does another form of a model still answer as the model does? From the logits of both on the same rows.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from finetune_cli.evaluation.comparison import Difference, compare_predictions
from finetune_cli.evaluation.intervals.shares import wilson
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.scoring import ScoringRules
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.export import Drop, Equality
from finetune_cli.tasks import KIND_SPECS, METRICS

TOLERANCE = 1e-4  # of a logit in float32: two orders of the same sums differ by 1e-6 to 1e-5
RELATIVE = 1e-5  # of the largest one, for numbers far from 1


def compare_logits(
    model: Array, exported: Array, labels: Array, rules: ScoringRules, *, allowed: Mapping[str, float], exact: bool
) -> Equality:
    """Compare two sets of logits (N, C) for the same rows.

    rules: metrics, bootstrap and decision rule of the model; the metric of the training loss is added, since a change
    of the probabilities moves it where the answers stay. allowed: how much worse each metric may be; "" for the others.
    exact: whether the logits themselves have to be equal, to rounding; otherwise the drops decide.
    """
    largest = float(np.abs(exported.astype(np.float64) - model).max()) if np.isfinite(exported).all() else math.inf
    tolerance = max(TOLERANCE, RELATIVE * float(np.abs(model).max()))
    level, count, drops = rules.resampling.level, None, []
    if math.isfinite(largest):
        ours, theirs = rules.scored(model, labels), rules.scored(exported, labels)
        if rules.classes:
            count = int((~rules.task.right(ours.answers, theirs.answers)).sum())
        # The same model in another form: these rows are what its drop is shown on.
        names, resampling = compared_metrics(rules), rules.resampling.to_compare
        differences = compare_predictions(names, ours, theirs, resampling, beyond_the_rows=False)
        drops = [_drop(difference, allowed.get(name, allowed[""])) for name, difference in differences.items()]
    return Equality(
        n=len(labels),
        largest_difference=largest,
        tolerance=tolerance if exact else None,
        num_changed=count,
        changed=None if count is None else MetricValue(count / len(labels), *wilson(count, len(labels), level)),
        drops=drops,
        level=level,
    )


def compared_metrics(rules: ScoringRules) -> list[str]:
    """The metrics of the run that rows can be paired for, and the one of the training loss."""
    return list(dict.fromkeys([*rules.names, KIND_SPECS[rules.kind].metric_of_loss]))


def _drop(tested: Difference, allowed: float) -> Drop:
    """Passed where the worse end of the interval is within the bound; a metric that the model itself has not, too."""
    greater_is_better = tested.metric not in METRICS or METRICS[tested.metric].greater_is_better
    worst = tested.low if greater_is_better else -tested.high
    return Drop(
        tested.metric,
        tested.a,
        tested.b,
        tested.difference,
        tested.low,
        tested.high,
        allowed,
        passed=worst >= -allowed or (math.isnan(tested.a) and math.isnan(tested.b)),
    )
