"""What the answers show besides the scores: calibration, errors worth reading, labels worth checking, residuals.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune_cli.evaluation.confusion import FloatArray, IntArray
from finetune_cli.evaluation.intervals.shares import wilson
from finetune_cli.evaluation.kinds import CLASS_KINDS
from finetune_cli.evaluation.row_metrics import ECE_BINS
from finetune_cli.runs.answers import Answers

RESIDUAL_BINS = 25
SCATTER_POINTS = 600
WILSON_LEVEL = 0.95  # of the bins' intervals, whatever the level of the scores'


@dataclass(frozen=True)
class Bin:
    """The answers with a confidence in (low, high]: mean confidence, share that is right, and its Wilson interval."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


@dataclass(frozen=True)
class Calibration:
    """ece: mean distance of confidence from accuracy over the bins, weighted by their rows."""

    bins: list[Bin]
    ece: float


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is likely wrong, the most suspicious first.

    rows, suggested: row and class numbers (K,). self_confidence: probability of the given label, (K,).
    pairs: (given label, suggested label, rows), the most frequent first.
    """

    rows: IntArray
    suggested: IntArray
    self_confidence: FloatArray
    pairs: list[tuple[str, str, int]]


@dataclass(frozen=True)
class Residuals:
    """prediction - label. points: (label, prediction) of at most SCATTER_POINTS rows, spread evenly over the split."""

    points: list[tuple[float, float]]
    counts: list[int]
    edges: list[float]
    mean: float
    sd: float


def calibration(answers: Answers) -> Calibration:
    """Bins as those of the metric `ece`: of the top probability; with several labels a row, of each class's own."""
    probabilities = answers.probabilities
    assert probabilities is not None, "a regression has no probabilities"
    confidence, right = CLASS_KINDS[answers.kind].decisions(answers.labels, probabilities)
    edges = np.linspace(0, 1, ECE_BINS + 1)
    places = np.digitize(confidence, edges[1:-1], right=True)
    counts = np.bincount(places, minlength=ECE_BINS)
    confidences, rights = (np.bincount(places, weights=values, minlength=ECE_BINS) for values in (confidence, right))
    bins = [
        Bin(
            float(edges[b]),
            float(edges[b + 1]),
            int(counts[b]),
            float(confidences[b] / counts[b]),
            float(rights[b] / counts[b]),
            *wilson(rights[b], int(counts[b]), WILSON_LEVEL),
        )
        for b in np.flatnonzero(counts)
    ]
    return Calibration(bins, float(np.abs(confidences - rights).sum() / len(confidence)))


def worst_errors(answers: Answers, limit: int) -> list[tuple[int, float]]:
    """(row, how wrong) of the errors the model was surest of; in regression of those farthest from the label.

    How wrong: the probability of the wrong answer (of several, the highest), or the absolute difference.
    """
    wrongness = answers.task.wrongness(answers.labels, answers.predictions, answers.scores)
    order = np.argsort(-wrongness, kind="stable")[:limit]
    return [(int(row), float(wrongness[row])) for row in order if wrongness[row] > 0]


def label_suspects(answers: Answers) -> Suspects:
    """Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", JAIR 70): the off-diagonal of its confident joint, ranked by self-confidence.

    The threshold of a class is the mean probability that its own rows give it. A row is suspect when another class
    reaches its threshold and is the likeliest of those that do. Needs probabilities from a model that was not trained
    on these rows.
    """
    probabilities, labels = answers.probabilities, answers.labels
    assert probabilities is not None, "a regression has no classes"
    names = answers.classes or ()
    rows, num_classes = np.arange(len(labels)), probabilities.shape[1]
    self_confidence = probabilities[rows, labels]
    support = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=self_confidence, minlength=num_classes)
    thresholds = np.divide(sums, support, out=np.full(num_classes, np.inf), where=support > 0)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    suspect = np.flatnonzero((confident[rows, suggested] >= 0) & (suggested != labels))
    suspect = suspect[np.argsort(self_confidence[suspect], kind="stable")]
    codes, counts = np.unique(labels[suspect] * num_classes + suggested[suspect], return_counts=True)
    pairs = [
        (names[codes[k] // num_classes], names[codes[k] % num_classes], int(counts[k]))
        for k in np.argsort(-counts, kind="stable")
    ]
    return Suspects(suspect, suggested[suspect], self_confidence[suspect], pairs)


def confused_pairs(
    cells: Sequence[tuple[int, int, int]], classes: Sequence[str], limit: int
) -> list[tuple[str, str, int, float]]:
    """(label, prediction, rows, share of the label's rows) of the most frequent confusions.

    cells: (label, prediction, rows) of the confusion matrix, by class numbers.
    """
    totals: Counter[int] = Counter()
    for label, _, count in cells:
        totals[label] += count
    mistakes = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    return [(classes[label], classes[said], count, count / totals[label]) for label, said, count in mistakes[:limit]]


def residuals(answers: Answers) -> Residuals:
    differences: NDArray[np.float64] = answers.predictions - answers.labels
    rows = np.linspace(0, len(differences) - 1, min(SCATTER_POINTS, len(differences))).astype(int)
    counts, edges = np.histogram(differences, bins=RESIDUAL_BINS)
    return Residuals(
        [(float(answers.labels[row]), float(answers.predictions[row])) for row in rows],
        counts.tolist(),
        edges.tolist(),
        float(differences.mean()),
        float(differences.std()),
    )
