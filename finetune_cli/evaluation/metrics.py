"""The metrics by name, in NumPy, equal to scikit-learn's and SciPy's.

`loss` is not here: it belongs to the training objective (class weights, label smoothing) and comes with the logits.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_cli.errors import ConfigError, DataError, RunFailedError
from finetune_cli.evaluation.confusion import CONFUSION_METRICS, TWO_CLASS_METRICS, FloatArray, count_classes
from finetune_cli.evaluation.library_metrics import PREFIX, load_library_metric
from finetune_cli.evaluation.row_metrics import ROW_METRICS, WeightedMetric

Array = NDArray[Any]
ROWS_SHOWN = 5


def softmax(logits: Array) -> FloatArray:
    """Probabilities float64 (..., C) of logits of any float type, without overflow."""
    shifted = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def compute_metrics(names: Sequence[str], *, labels: Array, scores: Array, kind: str) -> dict[str, float]:
    """Each metric by its name in `tasks.METRICS`, or `evaluate:NAME_OR_PATH`.

    kind "classification": labels int (N,) in 0..C-1, scores are probabilities (N, C) (see `softmax`); the prediction is
    the class of the highest probability, the first of equals. kind "regression": labels and scores are numbers (N,).

    Nothing to divide by gives 0.0 as in scikit-learn (precision when a class is never predicted, Matthews when one
    class is all there is). What is not defined is nan: AUROC without rows of every class, a correlation of a constant.
    RunFailedError for scores that are not finite, DataError for no rows or a label outside the classes, ConfigError for
    f1, precision or recall of more than two classes.
    """
    labels, scores = check_scored_rows(labels, scores, kind=kind)
    check_names(names, scores, kind=kind)
    ones = np.ones((1, len(labels)))
    counts = None
    values: dict[str, float] = {}
    for name in names:
        if name in CONFUSION_METRICS:
            counts = counts or count_classes(labels, scores.argmax(axis=1), scores.shape[1])
            values[name] = float(CONFUSION_METRICS[name](counts))
        else:
            values[name] = float(weighted_metric(name, labels=labels, scores=scores, kind=kind)(ones)[0])
    return values


def weighted_metric(name: str, *, labels: Array, scores: Array, kind: str) -> WeightedMetric:
    """A metric that is no function of the confusion matrix, as a function of row weights (R, N) to values (R,)."""
    if name.startswith(PREFIX):
        return _looped(load_library_metric(name), labels, scores, kind)
    return ROW_METRICS[kind][name](labels, scores)


def check_scored_rows(labels: Array, scores: Array, *, kind: str) -> tuple[Array, FloatArray]:
    """Labels and scores in the types that the metrics count on (int64 or float64, float64), or an error."""
    if kind not in ROW_METRICS:
        raise ValueError(f"kind must be one of {sorted(ROW_METRICS)}, not {kind!r}")
    classification = kind == "classification"
    labels = np.asarray(labels, dtype=np.int64 if classification else np.float64)
    scores = np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or scores.ndim != labels.ndim + classification or len(scores) != len(labels):
        raise ValueError(f"{kind}: labels {labels.shape} and scores {scores.shape} do not belong together")
    if len(labels) == 0:
        raise DataError("there are no rows to score. Check the split or the file that is evaluated.")
    _check_finite(scores)
    unknown = (labels < 0) | (labels >= scores.shape[1]) if classification else ~np.isfinite(labels)
    if unknown.any():
        expected = f"one of 0..{scores.shape[1] - 1}" if classification else "a finite number"
        raise DataError(
            f"{_rows(unknown)} no label to score against: {labels[unknown][0]} found, {expected} expected. "
            "Rows without labels can be predicted, not evaluated."
        )
    return labels, scores


def check_names(names: Sequence[str], scores: FloatArray, *, kind: str) -> None:
    """Raise for a metric that these scores cannot have."""
    confusion = CONFUSION_METRICS if kind == "classification" else {}
    known = [*confusion, *ROW_METRICS[kind]]
    for name in names:
        if name not in known and not name.startswith(PREFIX):
            raise ConfigError(f"metric {name!r}: not one for {kind}. Possible: {', '.join(known)}, {PREFIX}NAME.")
        if name in TWO_CLASS_METRICS and scores.shape[1] != 2:
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


def _rows(chosen: NDArray[np.bool_]) -> str:
    rows = np.flatnonzero(chosen)
    shown = ", ".join(str(row) for row in rows[:ROWS_SHOWN]) + (", ..." if len(rows) > ROWS_SHOWN else "")
    return f"{len(rows)} of {len(chosen)} rows (counted from 0: {shown}) have"


def _looped(metric: Callable[..., float], labels: Array, scores: Array, kind: str) -> WeightedMetric:
    """Any function of predictions and labels as a weighted metric, by repeating the rows."""
    predictions = scores.argmax(axis=1) if kind == "classification" else scores

    def values(weights: FloatArray) -> FloatArray:
        samples = (np.repeat(np.arange(len(labels)), row.astype(np.int64)) for row in weights)
        return np.array([metric(predictions=predictions[rows], references=labels[rows]) for rows in samples])

    return values
