"""What a model scores that has learned nothing, and the sign that a run is such a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune_cli.errors import DataError
from finetune_cli.evaluation.metrics import Array, compute_metrics


def majority_baseline(
    names: Sequence[str], *, train_labels: Array, labels: Array, kind: str, num_classes: int | None = None
) -> dict[str, float]:
    """The metrics on `labels` (N,) of a predictor that knows nothing of a row but how common each label is in training.

    Classification: it predicts the most frequent class of `train_labels`, with the classes' frequencies as
    probabilities. Regression: the mean. num_classes: needed for classification; a class need not occur in the rows.
    """
    if len(train_labels) == 0:
        raise DataError("there are no training rows to take a baseline from.")
    if kind == "regression":
        scores = np.full(len(labels), np.mean(train_labels, dtype=np.float64))
    else:
        frequencies = np.bincount(train_labels, minlength=num_classes or 0) / len(train_labels)
        scores = np.tile(frequencies, (len(labels), 1))
    return compute_metrics(names, labels=labels, scores=scores, kind=kind)


def collapsed_class(labels: Array, predictions: Array) -> int | None:
    """The class that is predicted on every row although the labels have others; None for a healthy run."""
    if len(np.unique(predictions)) == 1 and len(np.unique(labels)) > 1:
        return int(predictions[0])
    return None
