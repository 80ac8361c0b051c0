"""Rows that two models answer differently: where each of them is right, or nearer.

Dimensions: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finetune_cli.evaluation.confusion import FloatArray, IntArray
from finetune_cli.runs.answers import Answers


@dataclass(frozen=True)
class Disagreement:
    """Row numbers, those with the largest change first. both_right, both_wrong: counts; None in regression."""

    for_a: IntArray
    for_b: IntArray
    both_right: int | None
    both_wrong: int | None


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
    return answers.task.probability_of_truth(answers.labels, answers.scores(of_probabilities=True))
