"""The metrics by name, in NumPy, equal to scikit-learn's and SciPy's.

`loss` is not here: it belongs to the training objective (class weights, label smoothing) and comes with the logits.

Dimensions: N rows, R resamples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from finetune_cli.errors import ConfigError, DataError
from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.kinds import CLASS_KINDS, KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.library_metrics import load_library_metric
from finetune_cli.evaluation.row_metrics import WeightedMetric
from finetune_cli.evaluation.scored_rows import ScoredRows, scored_rows
from finetune_cli.tasks import EVALUATE_PREFIX, METRICS, Kind


def compute_metrics(names: Sequence[str], rows: ScoredRows) -> dict[str, float]:
    """Each metric by its name in `tasks.METRICS`, or `evaluate:NAME_OR_PATH`.

    Nothing to divide by gives 0.0 as in scikit-learn (precision when a class is never predicted, Matthews when one
    class is all there is). What is not defined is nan: AUROC without rows of every class, a correlation of a constant.
    Raises ConfigError for f1, precision or recall of more than two classes.
    """
    check_names(names, rows)
    ones, of_counts = np.ones((1, len(rows.labels))), rows.task.count_metrics
    counts = None
    values: dict[str, float] = {}
    for name in names:
        if name in of_counts:
            counts = counts or CLASS_KINDS[rows.kind].counter(rows.labels, rows.answers, rows.num_classes)(ones)
            values[name] = float(of_counts[name](counts)[0])
        else:
            values[name] = float(weighted_metric(name, rows)(ones)[0])
    return values


def majority_baseline(
    names: Sequence[str], *, train_labels: Array, labels: Array, kind: Kind, num_classes: int = 0
) -> dict[str, float]:
    """The metrics on `labels` (N,) of a predictor that knows nothing of a row but how common each label is in training.

    Classification: it predicts the most frequent class of `train_labels`, with the classes' frequencies as
    probabilities. Multilabel: the most frequent set of labels, labels being (N, C). Regression: the mean. num_classes:
    needed for classification; a class need not occur in the rows.
    """
    if len(train_labels) == 0:
        raise DataError("there are no training rows to take a baseline from.")
    answer, score = (
        np.broadcast_to(of_row, (len(labels), *np.shape(of_row)))
        for of_row in KINDS[kind].baseline(train_labels, num_classes)
    )
    return compute_metrics(names, scored_rows(labels, score, kind, answer))


def weighted_metric(name: str, rows: ScoredRows) -> WeightedMetric:
    """A metric that is no function of the confusion matrix, as a function of row weights (R, N) to values (R,)."""
    if name.startswith(EVALUATE_PREFIX):
        return _looped(load_library_metric(name), rows.labels, rows.answers)
    return rows.task.score_metrics[name](rows.labels, rows.scores)


def check_names(names: Sequence[str], rows: ScoredRows) -> None:
    """Raise for a metric that these rows cannot have."""
    possible = [*rows.task.count_metrics, *rows.task.score_metrics]
    for name in names:
        if name.startswith(EVALUATE_PREFIX):
            continue
        if name not in possible:
            raise ConfigError(
                f"metric {name!r}: not one for {rows.kind}. Possible: {', '.join(possible)}, {EVALUATE_PREFIX}NAME."
            )
        if METRICS[name].binary_only and rows.num_classes != 2:
            raise ConfigError(
                f"metric {name!r} is for two classes; the model has {rows.num_classes}. Take {name}_macro or matthews."
            )


def _looped(metric: Callable[..., float], labels: Array, answers: Array) -> WeightedMetric:
    """Any function of predictions and labels as a weighted metric, by repeating the rows."""

    def values(weights: FloatArray) -> FloatArray:
        samples = (np.repeat(np.arange(len(labels)), row.astype(np.int64)) for row in weights)
        return np.array([metric(predictions=answers[rows], references=labels[rows]) for rows in samples])

    return values
