"""What a model scores that has learned nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune_cli.errors import DataError
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.metrics import compute_metrics, metric_parts
from finetune_cli.tasks import Kind


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
