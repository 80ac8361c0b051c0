"""Rows with their labels and what a model says of them: all that a metric of rows looks at.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from finetune_cli.errors import DataError, RunFailedError
from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import Array, BoolArray, TaskKind
from finetune_cli.tasks import Kind

ROWS_SHOWN = 5


@dataclass(frozen=True)
class ScoredRows:
    """Made by `scored_rows`. Some metrics look at the answers alone, so that a decision rule counts, the rest at the
    scores."""

    labels: Array
    scores: FloatArray
    answers: Array
    kind: Kind

    @property
    def task(self) -> TaskKind:
        return KINDS[self.kind]

    @property
    def num_classes(self) -> int:
        """0 in regression."""
        return self.scores.shape[1] if self.scores.ndim == 2 else 0

    def right(self) -> BoolArray:
        """bool (N,): the answer is the label."""
        return self.task.right(self.labels, self.answers)

    def at(self, rows: Array) -> ScoredRows:
        """These rows: their numbers, or bool (N,)."""
        return replace(self, labels=self.labels[rows], scores=self.scores[rows], answers=self.answers[rows])


def scored_rows(labels: Array, scores: Array, kind: Kind, answers: Array | None = None) -> ScoredRows:
    """Labels and scores in the types that the metrics count on, int64 or float64, and float64.

    kind "classification": labels int (N,) in 0..C-1, scores are probabilities (N, C); the answer is the class of the
    highest probability, the first of equals. kind "multilabel": labels 0 or 1 and probabilities, both (N, C); answered
    is what has 0.5 or more. kind "regression": labels and scores are numbers (N,). answers: those of a decision rule,
    int64 (N,) or bool (N, C).

    Raises RunFailedError for scores that are not finite, DataError for no rows or a label outside the classes.
    """
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
    return ScoredRows(labels, scores, task.answers(scores) if answers is None else answers, kind)


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
