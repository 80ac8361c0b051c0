"""Any number of classes a row: labels and answers are 0 and 1 (N, C), scores a probability for each class (N, C)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from finetune_cli.data.label_sets import set_in_words, set_numbers
from finetune_cli.errors import DataError
from finetune_cli.evaluation.confusion import FloatArray, IntArray
from finetune_cli.evaluation.intervals.calibration import calibration_interval
from finetune_cli.evaluation.intervals.means import mean_interval
from finetune_cli.evaluation.intervals.ranks import area_interval, precision_interval
from finetune_cli.evaluation.intervals.shares import Interval, share_interval
from finetune_cli.evaluation.kinds.base import Array, BoolArray, ClassKind, Counter, intervals_of_counts
from finetune_cli.evaluation.row_metrics import surprise
from finetune_cli.evaluation.set_metrics import SET_METRICS, SET_ROW_METRICS, SetCounts, set_counter
from finetune_cli.evaluation.thresholds import fit_threshold

THRESHOLD = 0.5  # a class is answered from this probability on
ROWS_PER_CLASS_OF_AREA = 10  # on average, that an interval of the mean area takes; ranks say more than answers
OF_ONE_CLASS = {"f1_macro": "f1", "hamming_loss": "accuracy"}  # what each class contributes


def sigmoid(logits: Array) -> FloatArray:
    """Probabilities float64 of logits of any float type, each for itself, without overflow."""
    values = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1 + small)


def _exact(labels: Array, answers: Array, level: float) -> Interval | None:
    return share_interval((labels == answers).all(axis=1).astype(np.float64), np.ones(len(labels)), level)


def _wrong(labels: Array, answers: Array, level: float) -> Interval | None:
    wrong = (labels != answers).sum(axis=1).astype(np.float64)
    return share_interval(wrong, np.full(len(labels), float(labels.shape[1])), level)


def _by_row(labels: Array, answers: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Classes of each row (N,): answered rightly, in its label, answered."""
    columns = np.logical_and(labels, answers), labels, answers
    correct, labelled, answered = (column.sum(axis=1).astype(np.float64) for column in columns)
    return correct, labelled, answered


def _mean(labels: Array, scores: FloatArray, has: FloatArray, has_not: FloatArray, level: float) -> Interval | None:
    """Of the mean over rows and classes of a loss for a class that the row has, and has not, (N, C)."""
    mean = scores * has + (1 - scores) * has_not
    spread = (scores * has**2 + (1 - scores) * has_not**2 - mean**2).sum(axis=1) / scores.shape[1] ** 2
    first = mean.mean(axis=1)
    return mean_interval(np.where(labels == 1, has, has_not).mean(axis=1), level, (first, first**2 + spread))


def _auroc(labels: Array, scores: FloatArray, level: float, seed: int) -> Interval | None:
    if len(labels) < ROWS_PER_CLASS_OF_AREA * labels.shape[1]:
        return None
    return area_interval(list(labels.T == 1), list(scores.T), level)


def _with_class(mean: FloatArray, of_cells: FloatArray, values: tuple[int, int, int]) -> FloatArray:
    """One of the columns of counts for the cells (K, C), and below them three times the mean row (C,) for each class,
    with these values in place of the class's own: missed, given too much, found."""
    added = [np.where(np.eye(len(mean)) == 1, value, mean) for value in values]
    return np.concatenate([of_cells, *added])


class Multilabel(ClassKind):
    name = "multilabel"
    count_metrics = SET_METRICS
    score_metrics = SET_ROW_METRICS
    share_intervals: ClassVar = {
        "accuracy": _exact,
        "hamming_loss": _wrong,
        **{f"{name}_micro": interval for name, interval in intervals_of_counts(_by_row).items()},
    }
    score_intervals: ClassVar = {
        "auroc": _auroc,
        "average_precision": lambda labels, scores, level, seed: precision_interval(
            list(labels.T == 1), list(scores.T), level
        ),
        "log_loss": lambda labels, scores, level, seed: _mean(
            labels, scores, surprise(scores), surprise(1 - scores), level
        ),
        "brier": lambda labels, scores, level, seed: _mean(labels, scores, (1 - scores) ** 2, scores**2, level),
        "ece": lambda labels, scores, level, seed: calibration_interval(scores, labels == 1, level, seed),
    }
    rows_per_class = 20
    baseline_words = "always the commonest set of labels of training"
    decision_words = "decisions"
    confidence_words = "the probability of every class and row"

    def scores(self, logits: Array) -> FloatArray:
        return sigmoid(logits)

    def loss(self, logits: Array, labels: Array) -> float:
        """Cross-entropy, the mean over the classes, too, each a yes or no."""
        values = logits.astype(np.float64)
        return float(np.mean(np.logaddexp(0.0, np.where(labels == 1, -values, values))))

    def answers(self, scores: FloatArray) -> BoolArray:
        return scores >= THRESHOLD

    def as_scores(self, answers: Array, num_classes: int) -> FloatArray:
        return answers.astype(np.float64)

    def belong_together(self, labels: Array, scores: FloatArray) -> bool:
        return labels.ndim == 2 and labels.shape == scores.shape

    def unknown_labels(self, labels: Array, scores: FloatArray) -> tuple[BoolArray, str]:
        return ((labels != 0) & (labels != 1)).any(axis=1), "0 or 1 for each class"

    def right(self, labels: Array, answers: Array) -> BoolArray:
        """All classes of the row are right."""
        return np.asarray((labels == answers).all(axis=1))

    def baseline(self, train_labels: Array, num_classes: int) -> tuple[Array, Array]:
        """The commonest set; as probabilities the share of the rows that have each class."""
        firsts, _, rows = set_numbers(train_labels)
        return train_labels[firsts[rows.argmax()]].astype(bool), train_labels.mean(axis=0)

    def probability_of_truth(self, labels: Array, scores: FloatArray) -> FloatArray:
        """The mean over the classes."""
        return np.asarray(np.where(labels, scores, 1 - scores).mean(axis=1))

    def wrongness(self, labels: Array, answers: Array, scores: FloatArray) -> FloatArray:
        """Of the class that is wrong with the highest probability."""
        return np.asarray(np.where(answers != labels, np.where(answers, scores, 1 - scores), 0.0).max(axis=1))

    def metric_of_few_rows(self, metric_for_best: str) -> str:
        return "exact_match"

    def counter(self, labels: Array, answers: Array, num_classes: int) -> Counter:
        return set_counter(labels, answers)

    def draw_cells(self, labels: Array, answers: Array, num_classes: int, prior: float) -> tuple[FloatArray, Counter]:
        """The cells are those that occur; wrong answers are rows like the mean row, in which one class is missed or
        given too much, right ones such in which it is found. A row of either error has three quarters of the prior's:
        with half a recall of few rows is overrated, with all of it the F1 of very good models is underrated."""
        firsts, rows = self.cells(labels, [answers])
        truth, said = labels[firsts].astype(np.float64), answers[firsts].astype(np.float64)
        both, all_rows = truth * said, rows.sum()
        columns = [
            _with_class(rows @ of_class / all_rows, of_class, values)
            for of_class, values in ((both, (0, 0, 1)), (truth, (1, 0, 1)), (said, (0, 1, 1)))
        ]
        shares = np.repeat([0.75 * prior, 0.75 * prior, prior], num_classes) / num_classes
        correct, labelled, predicted = columns

        def count(weights: FloatArray) -> SetCounts:
            total = weights.sum(axis=-1)
            return SetCounts(weights @ correct, weights @ labelled, weights @ predicted, total, total)

        return np.concatenate([rows, shares]), count

    def cells(self, labels: Array, sets: Sequence[Array]) -> tuple[IntArray, IntArray]:
        firsts, _, rows = set_numbers(np.concatenate([labels, *sets], axis=1))
        return firsts, rows

    def decisions(self, labels: Array, scores: FloatArray) -> tuple[FloatArray, BoolArray]:
        return scores.ravel(), np.asarray(labels.ravel(), bool)

    def in_words(self, answer: Any, names: Sequence[str]) -> str:
        return set_in_words(answer, names)

    def with_threshold(self, answers: Array, number: int, above: BoolArray) -> Array:
        answers[:, number] = above
        return answers

    def fit_thresholds(
        self, probabilities: FloatArray, labels: IntArray, classes: Sequence[str], metric: str
    ) -> dict[str, float]:
        """A threshold for each class that some rows have and others have not, each on its own."""
        both = [c for c in range(len(classes)) if 0 < labels[:, c].sum() < len(labels)]
        if not both:
            raise DataError("--fit threshold: no class has rows with it and rows without it. It needs both.")
        one = OF_ONE_CLASS[metric]
        return {classes[c]: fit_threshold(probabilities[:, c], labels[:, c], one) for c in both}
