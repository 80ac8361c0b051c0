"""Fitting and applying a decision rule: a temperature for the probabilities, thresholds for the answers.

Both are fitted to logits and labels alone; nothing is trained.

Dimensions: N rows, C classes. Labels and answers of kind "classification" are class numbers (N,), of
"multilabel" 0 or 1, or bool (N, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from finetune_cli.errors import DataError
from finetune_cli.evaluation.abstaining import fit_abstention
from finetune_cli.evaluation.bisection import bisect
from finetune_cli.evaluation.confusion import FloatArray, IntArray
from finetune_cli.evaluation.kinds import CLASS_KINDS, KINDS
from finetune_cli.evaluation.kinds.base import Array, BoolArray
from finetune_cli.evaluation.row_metrics import of_label
from finetune_cli.evaluation.scored_rows import ScoredRows, scored_rows
from finetune_cli.records.decision_rule import DecisionRule
from finetune_cli.tasks import Kind

COLDEST, HOTTEST = 1e-3, 1e3  # beyond these a temperature says that there is nothing to fit
HALVINGS = 40  # of the bracket in log T, which is then 1e-11 wide
FOLDS = 5


def calibrated(logits: Array, rule: DecisionRule | None) -> Array:
    """Logits (N, C) over the rule's temperature; as they are without one."""
    if rule is None or rule.temperature is None:
        return logits
    return np.asarray(logits, np.float64) / rule.temperature


def answers_of(scores: FloatArray, rule: DecisionRule | None, classes: Sequence[str], kind: Kind) -> Array:
    """The answers for scores, by the rule's thresholds where it has them."""
    answers = KINDS[kind].answers(scores)
    for name, threshold in rule.thresholds.items() if rule else ():
        number = classes.index(name)
        answers = CLASS_KINDS[kind].with_threshold(answers, number, scores[:, number] > threshold)
    return answers


def is_confident(probabilities: FloatArray, answers: IntArray, min_confidence: float) -> BoolArray:
    """bool (N,): the probability of the class that is answered reaches `min_confidence`."""
    return of_label(answers, probabilities) >= min_confidence


def fit_rule(
    logits: Array, labels: IntArray, classes: Sequence[str], kind: Kind, *, temperature: bool, metric: str | None
) -> DecisionRule:
    """The temperature if asked for, then the thresholds that are best for `metric` at that temperature; None: without.

    Raises DataError when the rows cannot tell, RunFailedError for logits that are not finite.
    """
    task = KINDS[kind]
    scored_rows(labels, task.scores(logits), kind)  # raises
    rule = DecisionRule(fit_temperature(logits, labels, kind) if temperature else None, n=len(labels))
    if metric is None:
        return rule
    thresholds = CLASS_KINDS[kind].fit_thresholds(task.scores(calibrated(logits, rule)), labels, classes, metric)
    return replace(rule, thresholds=thresholds, metric=metric)


def with_abstention(
    rule: DecisionRule,
    logits: Array,
    labels: IntArray,
    classes: Sequence[str],
    kind: Kind,
    *,
    max_error: float,
    level: float,
) -> DecisionRule:
    """The rule with a bound on the confidence of its answers, of one class a row; see `fit_abstention`."""
    scores = KINDS[kind].scores(calibrated(logits, rule))
    answers = answers_of(scores, rule, classes, kind)
    right = KINDS[kind].right(labels, answers)
    return replace(rule, abstention=fit_abstention(of_label(answers, scores), right, max_error=max_error, level=level))


def fit_temperature(logits: Array, labels: IntArray, kind: Kind) -> float:
    """The T that gives softmax(logits / T), or sigmoid, the least log loss on these rows.

    Guo et al. 2017, "On Calibration of Modern Neural Networks". The loss is convex in 1/T, so its slope changes sign
    once: found by bisection. Raises DataError when no T is best: every row is right, or the logits say nothing.
    """
    values = np.asarray(logits, np.float64)
    truth = CLASS_KINDS[kind].as_scores(labels, values.shape[1])

    def slope(log_temperature: float) -> float:
        """Of the log loss in 1/T."""
        surplus = KINDS[kind].scores(values / np.exp(log_temperature)) - truth
        return float((surplus * values).sum(axis=1).mean())

    low, high = np.log(COLDEST), np.log(HOTTEST)
    if slope(low) <= 0:
        raise DataError(
            "--fit temperature: every row is answered right, so that no temperature is best. Fit on more, or harder, "
            "validation rows."
        )
    if slope(high) >= 0:
        raise DataError(
            "--fit temperature: on these rows the model is no better than equal probabilities for all classes. Train "
            "it longer, or look at its labels."
        )
    bracket = bisect(lambda log_temperature: slope(log_temperature) > 0, low, high, HALVINGS)
    return float(np.exp(sum(bracket) / 2))


def cross_validate(
    logits: Array, labels: IntArray, classes: Sequence[str], kind: Kind, rule: DecisionRule, *, seed: int
) -> ScoredRows | None:
    """The rows as they are answered by rules like this one that were not fitted on them.

    Each fifth of the rows, drawn by `seed` with its share of each class (or number of classes), is answered by a rule
    fitted on the other four. None when there are too few rows for that.
    """
    if len(labels) < 2 * FOLDS:
        return None
    shuffled = np.random.default_rng([seed, 2]).permutation(len(labels))
    fold, shared_out = np.empty(len(labels), np.int64), labels.sum(axis=1) if labels.ndim == 2 else labels
    fold[shuffled[np.argsort(shared_out[shuffled], kind="stable")]] = np.arange(len(labels)) % FOLDS
    probabilities, answers = np.empty(np.shape(logits)), np.empty(labels.shape, bool if labels.ndim == 2 else np.int64)
    for number in range(FOLDS):
        held = fold == number
        try:
            fitted = fit_rule(
                logits[~held],
                labels[~held],
                classes,
                kind,
                temperature=rule.temperature is not None,
                metric=rule.metric if rule.thresholds else None,
            )
        except DataError:
            return None
        probabilities[held] = KINDS[kind].scores(calibrated(logits[held], fitted))
        answers[held] = answers_of(probabilities[held], fitted, classes, kind)
    return scored_rows(labels, probabilities, kind, answers)
