"""One class a row: labels and answers are class numbers int64 (N,), scores probabilities (N, C)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import Any, ClassVar

import numpy as np

from finetune_cli.evaluation.confusion import (
    CONFUSION_METRICS,
    ClassCounts,
    FloatArray,
    IntArray,
    class_counter,
    confusion_matrix,
)
from finetune_cli.evaluation.intervals.calibration import calibration_interval
from finetune_cli.evaluation.intervals.means import mean_interval
from finetune_cli.evaluation.intervals.ranks import area_interval
from finetune_cli.evaluation.intervals.shares import Interval, share_interval
from finetune_cli.evaluation.kinds.base import Array, BoolArray, ClassKind, Counter, intervals_of_counts
from finetune_cli.evaluation.row_metrics import ROW_METRICS, of_label, squared_errors, surprise
from finetune_cli.evaluation.thresholds import fit_threshold
from finetune_cli.records.evaluation import MANY_CLASSES

BLOCK_CELLS = 2**17  # 1 MB of float64


def softmax(logits: Array) -> FloatArray:
    """Probabilities float64 (..., C) of logits of any float type, without overflow."""
    logits = np.asarray(logits)
    probabilities = np.empty(logits.shape)
    for rows in row_blocks(logits):
        values = logits[rows].astype(np.float64)
        values -= values.max(axis=-1, keepdims=True)
        np.exp(values, out=values)
        np.divide(values, values.sum(axis=-1, keepdims=True), out=probabilities[rows])
    return probabilities


def row_blocks(logits: Array) -> Iterator[slice | EllipsisType]:
    """Parts of the rows (N, C) that fit the processor's cache: with thousands of classes, arrays of all rows take most
    of the time to be mapped. Of one row alone (C,), the whole."""
    if logits.ndim == 1:
        yield ...
        return
    step = max(1, BLOCK_CELLS // max(1, logits[:1].size))
    yield from (slice(start, start + step) for start in range(0, len(logits), step))


def _cells_that_occur(labels: Array, answers: Array, num_classes: int, prior: float) -> tuple[FloatArray, Counter]:
    """Of the confusion matrix of many classes, which has far more cells than there are rows. The prior's wrong answers
    are one cell, spread evenly over the classes."""
    cells, rows = np.unique(labels * num_classes + answers, return_counts=True)
    truth, given = (np.append(classes, np.arange(num_classes)) for classes in np.divmod(cells, num_classes))
    count = class_counter(truth, given, num_classes)

    def count_all(weights: FloatArray) -> ClassCounts:
        counts, wrong = count(weights[:, :-1]), weights[:, -1:] / num_classes
        return ClassCounts(counts.correct, counts.labelled + wrong, counts.predicted + wrong)

    return np.concatenate([rows, np.full(num_classes, prior / num_classes), [prior]]), count_all


def _right(labels: Array, answers: Array, level: float) -> Interval | None:
    return share_interval((labels == answers).astype(np.float64), np.ones(len(labels)), level)


def _of_class_one(labels: Array, answers: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
    truth, said = ((column == 1).astype(np.float64) for column in (labels, answers))
    return truth * said, truth, said


def _mean(labels: Array, scores: FloatArray, of_class: FloatArray, level: float) -> Interval | None:
    """Of the mean of a loss that each row would have with each class as its label (N, C)."""
    expected = (scores * of_class).sum(axis=1), (scores * of_class**2).sum(axis=1)
    return mean_interval(of_label(labels, of_class), level, expected)


def _auroc(labels: Array, scores: FloatArray, level: float, seed: int) -> Interval | None:
    num_classes = scores.shape[1]
    if num_classes > 2 and len(labels) < Classification.rows_per_class * num_classes:
        return None
    classes = [1] if num_classes == 2 else range(num_classes)
    return area_interval([labels == c for c in classes], [scores[:, c] for c in classes], level)


class Classification(ClassKind):
    name = "classification"
    count_metrics = CONFUSION_METRICS
    score_metrics = ROW_METRICS
    share_intervals: ClassVar = {"accuracy": _right, "f1_micro": _right, **intervals_of_counts(_of_class_one)}
    score_intervals: ClassVar = {
        "auroc": _auroc,
        "log_loss": lambda labels, scores, level, seed: _mean(labels, scores, surprise(scores), level),
        "brier": lambda labels, scores, level, seed: _mean(labels, scores, squared_errors(scores), level),
        "ece": lambda labels, scores, level, seed: calibration_interval(
            scores.max(axis=1), scores.argmax(axis=1) == labels, level, seed
        ),
    }
    baseline_words = "always the commonest class of training"
    confidence_words = "the highest probability of each row"

    def scores(self, logits: Array) -> FloatArray:
        return softmax(logits)

    def loss(self, logits: Array, labels: Array) -> float:
        """Cross-entropy."""
        losses = np.empty(len(logits))
        for rows in row_blocks(logits):
            shifted = logits[rows].astype(np.float64)
            shifted -= shifted.max(axis=1, keepdims=True)
            of_truth = self.probability_of_truth(labels[rows], shifted)
            losses[rows] = np.log(np.exp(shifted).sum(axis=1)) - of_truth
        return float(np.mean(losses))

    def answers(self, scores: FloatArray) -> IntArray:
        """The class of the highest probability, the first of equals."""
        return np.asarray(scores.argmax(axis=1))

    def as_scores(self, answers: Array, num_classes: int) -> FloatArray:
        scores = np.zeros((len(answers), num_classes))
        scores[np.arange(len(answers)), answers] = 1.0
        return scores

    def belong_together(self, labels: Array, scores: FloatArray) -> bool:
        return labels.ndim == 1 and scores.ndim == 2 and len(scores) == len(labels)

    def unknown_labels(self, labels: Array, scores: FloatArray) -> tuple[BoolArray, str]:
        num_classes = scores.shape[1]
        return (labels < 0) | (labels >= num_classes), f"one of 0..{num_classes - 1}"

    def baseline(self, train_labels: Array, num_classes: int) -> tuple[Array, Array]:
        """The commonest class, with the classes' frequencies as probabilities."""
        frequencies = np.bincount(train_labels, minlength=num_classes) / len(train_labels)
        return np.asarray(frequencies.argmax()), frequencies

    def probability_of_truth(self, labels: Array, scores: FloatArray) -> FloatArray:
        return of_label(labels, scores)

    def wrongness(self, labels: Array, answers: Array, scores: FloatArray) -> FloatArray:
        return np.where(answers != labels, self.probability_of_truth(answers, scores), 0.0)

    def metric_of_few_rows(self, metric_for_best: str) -> str:
        return metric_for_best if metric_for_best in CONFUSION_METRICS else "accuracy"

    def counter(self, labels: Array, answers: Array, num_classes: int) -> Counter:
        return class_counter(labels, answers, num_classes)

    def draw_cells(self, labels: Array, answers: Array, num_classes: int, prior: float) -> tuple[FloatArray, Counter]:
        if num_classes > MANY_CLASSES:
            return _cells_that_occur(labels, answers, num_classes, prior)
        shape = (num_classes, num_classes)
        parameters = confusion_matrix(labels, answers, num_classes) + prior / max(1, num_classes * (num_classes - 1))
        np.fill_diagonal(parameters, confusion_matrix(labels, answers, num_classes).diagonal() + prior / num_classes)

        def count(weights: FloatArray) -> ClassCounts:
            matrices = weights.reshape(-1, *shape)
            correct = matrices.diagonal(axis1=1, axis2=2)
            return ClassCounts(correct, matrices.sum(axis=2), matrices.sum(axis=1))

        return parameters.ravel().astype(np.float64), count

    def cells(self, labels: Array, sets: Sequence[Array]) -> tuple[IntArray, IntArray]:
        together = np.stack([labels, *sets], axis=1)
        _, firsts, rows = np.unique(together, axis=0, return_index=True, return_counts=True)
        return firsts, rows

    def decisions(self, labels: Array, scores: FloatArray) -> tuple[FloatArray, BoolArray]:
        return scores.max(axis=1), self.answers(scores) == labels

    def in_words(self, answer: Any, names: Sequence[str]) -> str:
        return names[answer]

    def confusion(self, labels: Array, answers: Array, num_classes: int) -> list[list[int]]:
        if num_classes > MANY_CLASSES:
            return []
        return list(confusion_matrix(labels, answers, num_classes).tolist())

    def confusion_cells(self, labels: Array, answers: Array, num_classes: int) -> list[tuple[int, int, int]]:
        if num_classes <= MANY_CLASSES:
            return []
        cells, counts = np.unique(labels * num_classes + answers, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        truth, given = np.divmod(cells[order], num_classes)
        return list(zip(truth.tolist(), given.tolist(), counts[order].tolist(), strict=True))

    def with_threshold(self, answers: Array, number: int, above: BoolArray) -> Array:
        """Of two classes; the other one is answered else."""
        return np.where(above, number, 1 - number)

    def fit_thresholds(
        self, probabilities: FloatArray, labels: IntArray, classes: Sequence[str], metric: str
    ) -> dict[str, float]:
        return {classes[1]: fit_threshold(probabilities[:, 1], labels, metric)}
