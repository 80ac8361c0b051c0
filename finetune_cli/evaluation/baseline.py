"""What a model scores that has learned nothing, and the sign that a run is such a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune_cli.data.label_sets import set_numbers
from finetune_cli.errors import DataError
from finetune_cli.evaluation.metrics import COUNT_METRICS, Array, compute_metrics


def majority_baseline(
    names: Sequence[str], *, train_labels: Array, labels: Array, kind: str, num_classes: int | None = None
) -> dict[str, float]:
    """The metrics on `labels` (N,) of a predictor that knows nothing of a row but how common each label is in training.

    Classification: it predicts the most frequent class of `train_labels`, with the classes' frequencies as
    probabilities. Multilabel: the most frequent set of labels, labels being (N, C). Regression: the mean. num_classes:
    needed for classification; a class need not occur in the rows.
    """
    if len(train_labels) == 0:
        raise DataError("there are no training rows to take a baseline from.")
    if kind == "multilabel":
        return _commonest_set(names, train_labels, labels)
    if kind == "regression":
        scores = np.full(len(labels), np.mean(train_labels, dtype=np.float64))
    else:
        frequencies = np.bincount(train_labels, minlength=num_classes or 0) / len(train_labels)
        scores = np.tile(frequencies, (len(labels), 1))
    return compute_metrics(names, labels=labels, scores=scores, kind=kind)


def _commonest_set(names: Sequence[str], train_labels: Array, labels: Array) -> dict[str, float]:
    firsts, _, counts = set_numbers(train_labels)
    answers = {True: train_labels[firsts[counts.argmax()]], False: train_labels.mean(axis=0)}
    values: dict[str, float] = {}
    for by_count, answer in answers.items():
        part = [name for name in names if (name in COUNT_METRICS["multilabel"]) is by_count]
        values |= compute_metrics(part, labels=labels, scores=np.tile(answer, (len(labels), 1)), kind="multilabel")
    return {name: values[name] for name in names}


def collapsed_class(labels: Array, predictions: Array) -> int | None:
    """The class that is predicted on every row although the labels have others; None for a healthy run."""
    if len(np.unique(predictions)) == 1 and len(np.unique(labels)) > 1:
        return int(predictions[0])
    return None
