"""The metrics by name, in NumPy, equal to scikit-learn's and SciPy's.

`loss` is not here: it belongs to the training objective (class weights, label smoothing) and comes with the logits.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from finetune_cli.errors import ConfigError, DataError, RunFailedError
from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.kinds import CLASS_KINDS, KINDS
from finetune_cli.evaluation.kinds.base import Array, BoolArray
from finetune_cli.evaluation.library_metrics import load_library_metric
from finetune_cli.evaluation.row_metrics import WeightedMetric
from finetune_cli.tasks import EVALUATE_PREFIX, METRICS, Kind

ROWS_SHOWN = 5


def compute_metrics(names: Sequence[str], *, labels: Array, scores: Array, kind: Kind) -> dict[str, float]:
    """Each metric by its name in `tasks.METRICS`, or `evaluate:NAME_OR_PATH`.

    kind "classification": labels int (N,) in 0..C-1, scores are probabilities (N, C); the prediction is the class of
    the highest probability, the first of equals. kind "multilabel": labels 0 or 1 and probabilities, both (N, C);
    predicted is what has 0.5 or more. kind "regression": labels and scores are numbers (N,).

    Nothing to divide by gives 0.0 as in scikit-learn (precision when a class is never predicted, Matthews when one
    class is all there is). What is not defined is nan: AUROC without rows of every class, a correlation of a constant.
    RunFailedError for scores that are not finite, DataError for no rows or a label outside the classes, ConfigError for
    f1, precision or recall of more than two classes.
    """
    task = KINDS[kind]
    labels, scores = check_scored_rows(labels, scores, kind=kind)
    check_names(names, scores, kind=kind)
    ones = np.ones((1, len(labels)))
    counts = None
    values: dict[str, float] = {}
    for name in names:
        if name in task.count_metrics:
            counts = counts or CLASS_KINDS[kind].counter(labels, task.answers(scores), scores.shape[1])(ones)
            values[name] = float(task.count_metrics[name](counts)[0])
        else:
            values[name] = float(weighted_metric(name, labels=labels, scores=scores, kind=kind)(ones)[0])
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
    answer, score = KINDS[kind].baseline(train_labels, num_classes)
    values: dict[str, float] = {}
    for part, of_scores in metric_parts(names):
        of_row = score if of_scores else answer
        scores = np.broadcast_to(of_row, (len(labels), *np.shape(of_row)))
        values |= compute_metrics(part, labels=labels, scores=scores, kind=kind)
    return {name: values[name] for name in names}


def metric_parts(names: Sequence[str]) -> list[tuple[list[str], bool]]:
    """(metrics, whether they look at the scores): the rest look at the answers alone. Without empty parts."""
    of_scores = [name for name in names if name in METRICS and METRICS[name].of_scores]
    rest = [name for name in names if name not in of_scores]
    return [part for part in ((rest, False), (of_scores, True)) if part[0]]


def weighted_metric(name: str, *, labels: Array, scores: Array, kind: Kind) -> WeightedMetric:
    """A metric that is no function of the confusion matrix, as a function of row weights (R, N) to values (R,)."""
    if name.startswith(EVALUATE_PREFIX):
        return _looped(load_library_metric(name), labels, KINDS[kind].answers(scores))
    return KINDS[kind].score_metrics[name](labels, scores)


def check_scored_rows(labels: Array, scores: Array, *, kind: Kind) -> tuple[Array, FloatArray]:
    """Labels and scores in the types that the metrics count on (int64 or float64, float64), or an error."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {sorted(KINDS)}, not {kind!r}")
    task = KINDS[kind]
    labels, scores = np.asarray(labels, dtype=task.label_type), np.asarray(scores, dtype=np.float64)
    if not task.belong_together(labels, scores):
        raise ValueError(f"{kind}: labels {labels.shape} and scores {scores.shape} do not belong together")
    if len(labels) == 0:
        raise DataError("there are no rows to score. Check the split or the file that is evaluated.")
    _check_finite(scores)
    unknown, expected = task.unknown_labels(labels, scores)
    if unknown.any():
        raise DataError(
            f"{_rows(unknown)} no label to score against: {labels[unknown][0]} found, {expected} expected. "
            "Rows without labels can be predicted, not evaluated."
        )
    return labels, scores


def check_names(names: Sequence[str], scores: FloatArray, *, kind: Kind) -> None:
    """Raise for a metric that these scores cannot have."""
    possible = [*KINDS[kind].count_metrics, *KINDS[kind].score_metrics]
    for name in names:
        if name.startswith(EVALUATE_PREFIX):
            continue
        if name not in possible:
            raise ConfigError(
                f"metric {name!r}: not one for {kind}. Possible: {', '.join(possible)}, {EVALUATE_PREFIX}NAME."
            )
        if METRICS[name].binary_only and scores.shape[1] != 2:
            raise ConfigError(
                f"metric {name!r} is for two classes; the model has {scores.shape[1]}. Take {name}_macro or matthews."
            )


def _check_finite(scores: FloatArray) -> None:
    bad = np.asarray(~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1))
    if bad.any():
        raise RunFailedError(
            f"the model's output is not finite (nan or inf): {_rows(bad)} it. "
            "Train with a lower learning rate, or with training.precision: fp32."
        )


def _rows(chosen: BoolArray) -> str:
    rows = np.flatnonzero(chosen)
    shown = ", ".join(str(row) for row in rows[:ROWS_SHOWN]) + (", ..." if len(rows) > ROWS_SHOWN else "")
    return f"{len(rows)} of {len(chosen)} rows (counted from 0: {shown}) have"


def _looped(metric: Callable[..., float], labels: Array, answers: Array) -> WeightedMetric:
    """Any function of predictions and labels as a weighted metric, by repeating the rows."""

    def values(weights: FloatArray) -> FloatArray:
        samples = (np.repeat(np.arange(len(labels)), row.astype(np.int64)) for row in weights)
        return np.array([metric(predictions=answers[rows], references=labels[rows]) for rows in samples])

    return values
