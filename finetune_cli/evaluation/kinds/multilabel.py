"""Any number of classes a row: labels and answers are 0 and 1 (N, C), scores a probability for each class (N, C)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune_cli.data.label_sets import set_in_words, set_numbers
from finetune_cli.errors import DataError
from finetune_cli.evaluation.confusion import FloatArray, IntArray, per_class_report
from finetune_cli.evaluation.kinds.base import Array, BoolArray, Counter, TaskKind
from finetune_cli.evaluation.set_metrics import SET_METRICS, SET_ROW_METRICS, set_counter
from finetune_cli.evaluation.thresholds import fit_threshold
from finetune_cli.records.evaluation import ClassScore

THRESHOLD = 0.5  # a class is answered from this probability on
OF_ONE_CLASS = {"f1_macro": "f1", "hamming_loss": "accuracy"}  # what each class contributes


def sigmoid(logits: Array) -> FloatArray:
    """Probabilities float64 of logits of any float type, each for itself, without overflow."""
    values = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1 + small)


class Multilabel(TaskKind):
    name = "multilabel"
    count_metrics = SET_METRICS
    score_metrics = SET_ROW_METRICS
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
        return train_labels[firsts[rows.argmax()]], train_labels.mean(axis=0)

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

    def cells(self, labels: Array, sets: Sequence[Array]) -> tuple[IntArray, IntArray]:
        firsts, _, rows = set_numbers(np.concatenate([labels, *sets], axis=1))
        return firsts, rows

    def decisions(self, labels: Array, scores: FloatArray) -> tuple[FloatArray, BoolArray]:
        return scores.ravel(), np.asarray(labels.ravel(), bool)

    def collapsed(self, labels: Array, answers: Array, names: Sequence[str]) -> str | None:
        alike, varied = (answers == answers[0]).all(), (labels != labels[0]).any()
        return set_in_words(answers[0], names) if alike and varied else None

    def per_class(self, labels: Array, answers: Array, names: Sequence[str]) -> list[ClassScore]:
        return per_class_report(set_counter(labels, answers), len(labels), names)

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
