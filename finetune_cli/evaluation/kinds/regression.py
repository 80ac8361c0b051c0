"""A number a row: labels, answers and scores are float64 (N,)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.intervals.means import mean_interval, pearson_interval, spearman_interval
from finetune_cli.evaluation.kinds.base import Array, BoolArray, TaskKind
from finetune_cli.evaluation.row_metrics import NUMBER_METRICS


class Regression(TaskKind):
    name = "regression"
    label_type = np.float64
    score_metrics = NUMBER_METRICS
    score_intervals: ClassVar = {
        "pearson": lambda labels, scores, level, seed: pearson_interval(labels, scores, level),
        "spearman": lambda labels, scores, level, seed: spearman_interval(labels, scores, level),
        "mse": lambda labels, scores, level, seed: mean_interval((labels - scores) ** 2, level),
    }
    baseline_words = "the mean of the training labels"

    def scores(self, logits: Array) -> FloatArray:
        return logits[:, 0].astype(np.float64)

    def loss(self, logits: Array, labels: Array) -> float:
        """Squared error."""
        return float(np.mean((logits[:, 0].astype(np.float64) - labels) ** 2))

    def answers(self, scores: FloatArray) -> FloatArray:
        return scores

    def belong_together(self, labels: Array, scores: FloatArray) -> bool:
        return labels.ndim == 1 and labels.shape == scores.shape

    def unknown_labels(self, labels: Array, scores: FloatArray) -> tuple[BoolArray, str]:
        return ~np.isfinite(labels), "a finite number"

    def baseline(self, train_labels: Array, num_classes: int) -> tuple[Array, Array]:
        mean = np.asarray(np.mean(train_labels, dtype=np.float64))
        return mean, mean

    def probability_of_truth(self, labels: Array, scores: FloatArray) -> FloatArray:
        return -np.abs(scores - labels)

    def wrongness(self, labels: Array, answers: Array, scores: FloatArray) -> FloatArray:
        return np.abs(answers - labels)

    def in_words(self, answer: Any, names: Sequence[str]) -> str:
        return f"{answer:.4g}"

    def metric_of_few_rows(self, metric_for_best: str) -> str:
        return "mse"
