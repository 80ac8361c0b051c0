"""Made-up populations with known scores: what test sets are drawn from, and each metric's true value.

Classes: a row of class y has a point with mean m at y and 0 elsewhere and normal noise of variance 1; the model answers
with the posterior for equally common classes, so that every class is answered rightly with the same probability. m is
set for the accuracy that is asked for. Several labels: each class so for itself, with noise that the classes of a row
share in part. Numbers: bivariate normal, the accuracy being their correlation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtr, ndtri, roots_hermitenorm
from scipy.special import softmax as scipy_softmax

from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.tasks import Kind, metrics_for

ROWS_OF_TRUTH = 400_000
SHARED_NOISE = 0.3  # correlation of the noise between the classes of a row with several labels
SETS = (0.5, 0.3, 0.1)  # how common each label is

Draw = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class World:
    """draw: a number of rows and a generator to labels and scores, as `scored_rows` takes them."""

    name: str
    kind: Kind
    accuracy: float
    num_classes: int
    draw: Draw

    def truth(self, rows: int = ROWS_OF_TRUTH) -> dict[str, float]:
        """Each metric on very many rows; the calibration error of a calibrated model is 0, which no sample has."""
        names = [name for name in metrics_for(self.kind, self.num_classes) if name != "loss"]
        labels, scores = self.draw(rows, np.random.default_rng(99))
        values = compute_metrics(names, scored_rows(labels, scores, self.kind))
        if self.kind == "regression":
            rho = self.accuracy
            values |= {"pearson": rho, "spearman": 6 / math.pi * math.asin(rho / 2), "mse": 2 - 2 * rho}
        elif self.kind == "classification":
            values["ece"] = 0.0  # every class is recognised alike: a confidence holds, however common the classes are
        return values


def worlds(accuracy: float) -> list[World]:
    margin = float(ndtri(accuracy))
    return [
        World("two balanced", "classification", accuracy, 2, _two(margin, 0.5)),
        World("two 9:1", "classification", accuracy, 2, _two(margin, 0.1)),
        World("five", "classification", accuracy, 5, _many(_margin(accuracy, 5), 5)),
        World("three labels", "multilabel", accuracy, 3, _sets(margin)),
        World("regression", "regression", accuracy, 1, _numbers(accuracy)),
    ]


def _two(margin: float, share: float) -> Draw:
    def draw(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        labels = (generator.random(n) < share).astype(np.int64)
        points = generator.normal(size=n) + margin * (2 * labels - 1)
        probabilities = expit(2 * margin * points)
        return labels, np.stack([1 - probabilities, probabilities], axis=1)

    return draw


def _margin(accuracy: float, num_classes: int) -> float:
    """The mean at which a point of the own class is the largest of all with this probability."""
    nodes, weights = roots_hermitenorm(80)
    weights = weights / weights.sum()
    return float(brentq(lambda m: float(weights @ ndtr(nodes + m) ** (num_classes - 1)) - accuracy, 0.0, 20.0))


def _many(margin: float, num_classes: int) -> Draw:
    def draw(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.integers(num_classes, size=n)
        points = generator.normal(size=(n, num_classes))
        points[np.arange(n), labels] += margin
        return labels, scipy_softmax(margin * points, axis=1)

    return draw


def _sets(margin: float) -> Draw:
    def draw(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        labels = (generator.random((n, len(SETS))) < SETS).astype(np.int64)
        noise = math.sqrt(SHARED_NOISE) * generator.normal(size=(n, 1))
        noise = noise + math.sqrt(1 - SHARED_NOISE) * generator.normal(size=labels.shape)
        return labels, expit(2 * margin * (noise + margin * (2 * labels - 1)))

    return draw


def _numbers(correlation: float) -> Draw:
    def draw(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.normal(size=n)
        return labels, correlation * labels + math.sqrt(1 - correlation**2) * generator.normal(size=n)

    return draw
