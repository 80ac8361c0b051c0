"""Rows that two models answer differently: where each of them is right, or nearer.

Dimensions: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from finetune_cli.evaluation.confusion import FloatArray, IntArray
from finetune_cli.report.answers import Answers


@dataclass(frozen=True)
class Disagreement:
    """Row numbers, those with the largest change first. both_right, both_wrong: counts; None in regression."""

    for_a: IntArray
    for_b: IntArray
    both_right: int | None
    both_wrong: int | None


def in_order_of(first: Answers, other: Answers) -> Answers:
    """`other` with its rows and classes in the order of `first`; both are about the same rows and classes."""
    position = {row_id: row for row, row_id in enumerate(other.ids)}
    order = np.array([position[row_id] for row_id in first.ids])
    labels, predictions = other.labels[order], other.predictions[order]
    probabilities = None if other.probabilities is None else other.probabilities[order]
    if first.classes is not None and other.classes is not None and first.classes != other.classes:
        column = [other.classes.index(name) for name in first.classes]
        probabilities = None if probabilities is None else probabilities[:, column]
        if labels.ndim == 2:
            labels, predictions = labels[:, column], predictions[:, column]
        else:
            number = np.argsort(column)
            labels, predictions = number[labels], number[predictions]
    return replace(
        other, ids=first.ids, classes=first.classes, labels=labels, predictions=predictions, probabilities=probabilities
    )


def disagreement(a: Answers, b: Answers) -> Disagreement:
    """Where one is right and the other wrong; in regression where one is nearer. Rows of a and b are the same."""
    change = _quality(b) - _quality(a)
    if a.classes is None:
        order = np.argsort(change, kind="stable")
        return Disagreement(order[change[order] < 0], order[change[order] > 0][::-1], None, None)
    right_a, right_b = a.correct(), b.correct()
    only_a, only_b = np.flatnonzero(right_a & ~right_b), np.flatnonzero(right_b & ~right_a)
    return Disagreement(
        only_a[np.argsort(change[only_a], kind="stable")],
        only_b[np.argsort(-change[only_b], kind="stable")],
        int((right_a & right_b).sum()),
        int((~right_a & ~right_b).sum()),
    )


def _quality(answers: Answers) -> FloatArray:
    """The higher the better: the probability of the truth, or in regression the distance from it, negated."""
    return answers.task.probability_of_truth(answers.labels, answers.scores())
