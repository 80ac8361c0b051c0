"""The face of a kind of task: all that its kind decides when it is scored.

Dimensions: N rows, C classes, R resamples, K cells.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from finetune_cli.evaluation.confusion import ClassCounts, FloatArray, IntArray, per_class_report
from finetune_cli.evaluation.intervals.shares import Interval, f1_interval, share_interval
from finetune_cli.evaluation.row_metrics import WeightedMetric
from finetune_cli.records.evaluation import ClassScore
from finetune_cli.tasks import Kind

Array = NDArray[Any]
BoolArray = NDArray[np.bool_]
Counter = Callable[[FloatArray], ClassCounts]
ShareInterval = Callable[[Array, Array, float], Interval | None]  # labels, answers, level
ScoreInterval = Callable[[Array, FloatArray, float, int], Interval | None]  # labels, scores, level, seed


def intervals_of_counts(
    by_row: Callable[[Array, Array], tuple[FloatArray, FloatArray, FloatArray]],
) -> dict[str, ShareInterval]:
    """Those of precision, recall and F1, by what labels and answers of each row (N,) have: decisions that are answered
    rightly, that are in its label, that are answered."""

    def precision(labels: Array, answers: Array, level: float) -> Interval | None:
        correct, _, answered = by_row(labels, answers)
        return share_interval(correct, answered, level)

    return {
        "precision": precision,
        "recall": lambda labels, answers, level: precision(answers, labels, level),
        "f1": lambda labels, answers, level: f1_interval(*by_row(labels, answers), level),
    }


class TaskKind(ABC):
    """One object for each kind of task; labels, scores and answers are arrays in the form of the kind.

    Scores are what metrics take: probabilities (N, C), or in regression the numbers (N,). Answers are what the model
    says of a row. count_metrics: of the counts of labels and answers; score_metrics: of labels and scores. The names
    are those that `tasks.METRICS` has for the kind. share_intervals: of the metrics of counts that are a share of rows
    or decisions; score_intervals: of all metrics of scores.
    """

    name: ClassVar[Kind]
    label_type: ClassVar[type[np.generic]] = np.int64
    count_metrics: ClassVar[Mapping[str, Callable[[Any], FloatArray]]] = {}
    score_metrics: ClassVar[Mapping[str, Callable[..., WeightedMetric]]]
    share_intervals: ClassVar[Mapping[str, ShareInterval]] = {}
    score_intervals: ClassVar[Mapping[str, ScoreInterval]]

    rows_per_class: ClassVar[int] = 5  # on average, that the interval of a mean over classes takes

    # Words of the report.
    baseline_words: ClassVar[str]  # what `baseline` answers
    decision_words: ClassVar[str] = "rows"  # what has one confidence each
    confidence_words: ClassVar[str] = ""  # what the calibration is of

    @abstractmethod
    def scores(self, logits: Array) -> FloatArray:
        """The scores of logits (N, C) of any float type."""

    @abstractmethod
    def loss(self, logits: Array, labels: Array) -> float:
        """The mean over the rows in float64: without class weights, label smoothing or focus."""

    @abstractmethod
    def answers(self, scores: FloatArray) -> Array:
        """What the model says of each row, without a decision rule."""

    @abstractmethod
    def belong_together(self, labels: Array, scores: FloatArray) -> bool:
        """Whether the shapes fit."""

    @abstractmethod
    def unknown_labels(self, labels: Array, scores: FloatArray) -> tuple[BoolArray, str]:
        """Which rows (N,) have no label that can be scored, and what was expected of a label."""

    def right(self, labels: Array, answers: Array) -> BoolArray:
        """bool (N,): the answer is the label."""
        return np.asarray(labels == answers)

    @abstractmethod
    def baseline(self, train_labels: Array, num_classes: int) -> tuple[Array, Array]:
        """Answer and scores of one row, from a predictor that knows only how common each label is in training."""

    @abstractmethod
    def probability_of_truth(self, labels: Array, scores: FloatArray) -> FloatArray:
        """How good each row's scores are, (N,), higher is better; in regression the negated distance."""

    @abstractmethod
    def wrongness(self, labels: Array, answers: Array, scores: FloatArray) -> FloatArray:
        """How sure the model was of a wrong answer, (N,), 0 for a right one; in regression how far off it is."""

    @abstractmethod
    def in_words(self, answer: Any, names: Sequence[str]) -> str:
        """The answer to one row, or its label, by the names of the classes."""

    @abstractmethod
    def metric_of_few_rows(self, metric_for_best: str) -> str:
        """A metric that means something for a few rows: correlations, and what needs every class, do not."""

    def collapsed(self, labels: Array, answers: Array, names: Sequence[str]) -> str | None:
        """What every row was answered although the labels differ, in words; None for a healthy model."""
        return None

    def per_class(
        self, labels: Array, answers: Array, names: Sequence[str], level: float | None = None
    ) -> list[ClassScore]:
        """How each class was recognised, with intervals at this level; None: without."""
        return []

    def confusion(self, labels: Array, answers: Array, num_classes: int) -> list[list[int]]:
        """Rows are labels, columns answers; empty where a row has not one class, or where classes are many."""
        return []

    def confusion_cells(self, labels: Array, answers: Array, num_classes: int) -> list[tuple[int, int, int]]:
        """(label, answer, rows), the most rows first: the cells that are not 0, where classes are many."""
        return []


class ClassKind(TaskKind):
    """A kind with classes: its answers make counts, its scores are probabilities, and thresholds may decide."""

    count_metrics: ClassVar[Mapping[str, Callable[[Any], FloatArray]]]
    share_intervals: ClassVar[Mapping[str, ShareInterval]]

    def collapsed(self, labels: Array, answers: Array, names: Sequence[str]) -> str | None:
        alike, varied = (answers == answers[0]).all(), (labels != labels[0]).any()
        return self.in_words(answers[0], names) if alike and varied else None

    def per_class(
        self, labels: Array, answers: Array, names: Sequence[str], level: float | None = None
    ) -> list[ClassScore]:
        return per_class_report(self.counter(labels, answers, len(names)), len(labels), names, level)

    @abstractmethod
    def as_scores(self, answers: Array, num_classes: int) -> FloatArray:
        """The probabilities (N, C), 0 and 1, of being sure of these answers."""

    @abstractmethod
    def counter(self, labels: Array, answers: Array, num_classes: int) -> Counter:
        """A function from row weights (R, N) to what `count_metrics` take, of the rows so weighted."""

    @abstractmethod
    def draw_cells(self, labels: Array, answers: Array, num_classes: int, prior: float) -> tuple[FloatArray, Counter]:
        """For the intervals of metrics of counts: how many rows each cell has (K,), with `prior` rows shared out to all
        wrong answers and as many to all right ones, and a function from weights of these cells (S, K) to counts."""

    @abstractmethod
    def cells(self, labels: Array, sets: Sequence[Array]) -> tuple[IntArray, IntArray]:
        """Rows with the same label and the same answer in every set, by their first row (K,), and how many they are."""

    @abstractmethod
    def decisions(self, labels: Array, scores: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Confidence and whether it was right, of each decision; both flat."""

    @abstractmethod
    def with_threshold(self, answers: Array, number: int, above: BoolArray) -> Array:
        """The answers when the class of this number is given where its probability is `above` its threshold."""

    @abstractmethod
    def fit_thresholds(
        self, probabilities: FloatArray, labels: IntArray, classes: Sequence[str], metric: str
    ) -> dict[str, float]:
        """The thresholds that are best for the metric. Raises DataError when the rows cannot tell."""
