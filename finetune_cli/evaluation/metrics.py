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
from finetune_cli.evaluation.set_metrics import SET_METRICS, SET_ROW_METRICS, chosen_sets, count_sets

Array = NDArray[Any]
ROWS_SHOWN = 5

# By kind of task: those that counts of the predicted classes decide, and those that need more of a row.
COUNT_METRICS: dict[str, dict[str, Callable[[Any], FloatArray]]] = {
    "classification": {**CONFUSION_METRICS},
    "multilabel": {**SET_METRICS},
    "regression": {},
}
SCORE_METRICS = {**ROW_METRICS, "multilabel": SET_ROW_METRICS}


def softmax(logits: Array) -> FloatArray:
    """Probabilities float64 (..., C) of logits of any float type, without overflow."""
    shifted = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def sigmoid(logits: Array) -> FloatArray:
    """Probabilities float64 of logits of any float type, each for itself, without overflow."""
    values = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1 + small)


def predicted(scores: Array, kind: str) -> Array:
    """The answer of each row: class numbers (N,), several labels a row bool (N, C), in regression the scores."""
    if kind == "multilabel":
        return chosen_sets(scores)
    return np.asarray(scores.argmax(axis=1)) if kind == "classification" else scores


def compute_metrics(names: Sequence[str], *, labels: Array, scores: Array, kind: str) -> dict[str, float]:
    """Each metric by its name in `tasks.METRICS`, or `evaluate:NAME_OR_PATH`.

    kind "classification": labels int (N,) in 0..C-1, scores are probabilities (N, C) (see `softmax`); the prediction is
    the class of the highest probability, the first of equals. kind "multilabel": labels 0 or 1 and probabilities, both
    (N, C), see `sigmoid`; predicted is what has 0.5 or more. kind "regression": labels and scores are numbers (N,).

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
        if name in COUNT_METRICS[kind]:
            counts = counts or _counts(labels, predicted(scores, kind), scores.shape[1])
            values[name] = float(COUNT_METRICS[kind][name](counts))
        else:
            values[name] = float(weighted_metric(name, labels=labels, scores=scores, kind=kind)(ones)[0])
    return values


def _counts(labels: Array, predictions: Array, num_classes: int) -> Any:
    return count_sets(labels, predictions) if labels.ndim == 2 else count_classes(labels, predictions, num_classes)


def weighted_metric(name: str, *, labels: Array, scores: Array, kind: str) -> WeightedMetric:
    """A metric that is no function of the confusion matrix, as a function of row weights (R, N) to values (R,)."""
    if name.startswith(PREFIX):
        return _looped(load_library_metric(name), labels, scores, kind)
    return SCORE_METRICS[kind][name](labels, scores)


def check_scored_rows(labels: Array, scores: Array, *, kind: str) -> tuple[Array, FloatArray]:
    """Labels and scores in the types that the metrics count on (int64 or float64, float64), or an error."""
    if kind not in SCORE_METRICS:
        raise ValueError(f"kind must be one of {sorted(SCORE_METRICS)}, not {kind!r}")
    classification = kind == "classification"
    labels = np.asarray(labels, dtype=np.float64 if kind == "regression" else np.int64)
    scores = np.asarray(scores, dtype=np.float64)
    if kind == "multilabel":
        if labels.ndim != 2 or labels.shape != scores.shape:
            raise ValueError(f"{kind}: labels {labels.shape} and scores {scores.shape} do not belong together")
    elif labels.ndim != 1 or scores.ndim != labels.ndim + classification or len(scores) != len(labels):
        raise ValueError(f"{kind}: labels {labels.shape} and scores {scores.shape} do not belong together")
    if len(labels) == 0:
        raise DataError("there are no rows to score. Check the split or the file that is evaluated.")
    _check_finite(scores)
    if kind == "multilabel":
        unknown, expected = ((labels != 0) & (labels != 1)).any(axis=1), "0 or 1 for each class"
    elif classification:
        unknown, expected = (labels < 0) | (labels >= scores.shape[1]), f"one of 0..{scores.shape[1] - 1}"
    else:
        unknown, expected = ~np.isfinite(labels), "a finite number"
    if unknown.any():
        raise DataError(
            f"{_rows(unknown)} no label to score against: {labels[unknown][0]} found, {expected} expected. "
            "Rows without labels can be predicted, not evaluated."
        )
    return labels, scores


def check_names(names: Sequence[str], scores: FloatArray, *, kind: str) -> None:
    """Raise for a metric that these scores cannot have."""
    known = [*COUNT_METRICS[kind], *SCORE_METRICS[kind]]
    for name in names:
        if name not in known and not name.startswith(PREFIX):
            raise ConfigError(f"metric {name!r}: not one for {kind}. Possible: {', '.join(known)}, {PREFIX}NAME.")
        if kind == "classification" and name in TWO_CLASS_METRICS and scores.shape[1] != 2:
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
