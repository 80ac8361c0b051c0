"""Fitting and applying a decision rule: a temperature for the probabilities, thresholds for the answers.

Both are fitted to logits and labels alone; nothing is trained.

Dimensions: N rows, C classes, K cut points. Labels and answers of kind "classification" are class numbers (N,), of
"multilabel" 0 or 1, or bool (N, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from finetune_cli.errors import DataError
from finetune_cli.evaluation.confusion import CONFUSION_METRICS, ClassCounts, FloatArray, IntArray
from finetune_cli.evaluation.metrics import Array, check_scored_rows, predicted, sigmoid, softmax
from finetune_cli.records.decision_rule import DecisionRule

COLDEST, HOTTEST = 1e-3, 1e3  # beyond these a temperature says that there is nothing to fit
HALVINGS = 40  # of the bracket in log T, which is then 1e-11 wide
FOLDS = 5
EQUAL = 1e-12  # metrics nearer than this are the same number, rounded differently
OF_ONE_CLASS = {"f1_macro": "f1", "hamming_loss": "accuracy"}  # what each class contributes, of several labels a row


def calibrated(logits: Array, rule: DecisionRule | None) -> Array:
    """Logits (N, C) over the rule's temperature; as they are without one."""
    if rule is None or rule.temperature is None:
        return logits
    return np.asarray(logits, np.float64) / rule.temperature


def answers_of(probabilities: FloatArray, rule: DecisionRule | None, classes: Sequence[str], kind: str) -> Array:
    """The answers for probabilities (N, C), by the rule's thresholds where it has them; see `predicted` for others."""
    answers = predicted(probabilities, kind)
    for name, threshold in rule.thresholds.items() if rule else ():
        number = classes.index(name)
        above = probabilities[:, number] > threshold
        if kind == "multilabel":
            answers[:, number] = above
        else:
            answers = np.where(above, number, 1 - number)
    return answers


def is_confident(probabilities: FloatArray, answers: IntArray, min_confidence: float) -> NDArray[np.bool_]:
    """bool (N,): the probability of the class that is answered reaches `min_confidence`."""
    return probabilities[np.arange(len(answers)), answers] >= min_confidence


def fit_rule(
    logits: Array, labels: IntArray, classes: Sequence[str], kind: str, *, temperature: bool, metric: str | None
) -> DecisionRule:
    """The temperature if asked for, then the thresholds that are best for `metric` at that temperature; None: without.

    Raises DataError when the rows cannot tell, RunFailedError for logits that are not finite.
    """
    check_scored_rows(labels, _probabilities(logits, kind), kind=kind)
    rule = DecisionRule(fit_temperature(logits, labels, kind) if temperature else None, n=len(labels))
    if metric is None:
        return rule
    probabilities = _probabilities(calibrated(logits, rule), kind)
    if kind == "multilabel":
        thresholds = _fit_thresholds(probabilities, labels, classes, metric)
    else:
        thresholds = {classes[1]: fit_threshold(probabilities[:, 1], labels, metric)}
    return replace(rule, thresholds=thresholds, metric=metric)


def _probabilities(logits: Array, kind: str) -> FloatArray:
    return sigmoid(logits) if kind == "multilabel" else softmax(logits)


def fit_temperature(logits: Array, labels: IntArray, kind: str) -> float:
    """The T that gives softmax(logits / T), or sigmoid, the least log loss on these rows.

    Guo et al. 2017, "On Calibration of Modern Neural Networks". The loss is convex in 1/T, so its slope changes sign
    once: found by bisection. Raises DataError when no T is best: every row is right, or the logits say nothing.
    """
    values = np.asarray(logits, np.float64)
    truth = labels if kind == "multilabel" else np.eye(values.shape[1])[labels]

    def slope(log_temperature: float) -> float:
        """Of the log loss in 1/T."""
        surplus = _probabilities(values / np.exp(log_temperature), kind) - truth
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
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def _fit_thresholds(
    probabilities: FloatArray, labels: IntArray, classes: Sequence[str], metric: str
) -> dict[str, float]:
    """A threshold for each class that some rows have and others have not, each on its own."""
    both = [c for c in range(len(classes)) if 0 < labels[:, c].sum() < len(labels)]
    if not both:
        raise DataError("--fit threshold: no class has rows with it and rows without it. It needs both.")
    one = OF_ONE_CLASS[metric]
    return {classes[c]: fit_threshold(probabilities[:, c], labels[:, c], one) for c in both}


def fit_threshold(positive: FloatArray, labels: IntArray, metric: str) -> float:
    """The t for which "class 1 where its probability is above t" has the best metric; of two classes, labels 0 and 1.

    positive: probabilities (N,) of class 1. A metric changes only where t passes a row, so that the best values are
    plateaus; the middle of the widest one is taken. Raises DataError for rows of one class.
    """
    if len(np.unique(labels)) != 2:
        raise DataError("--fit threshold: all rows have one class. It needs validation rows of both.")
    values, places = np.unique(positive, return_inverse=True)
    edges = np.concatenate([[0.0], values, [1.0]])  # cut k: t in [edges[k], edges[k + 1]), class 1 from values[k] on
    scores = CONFUSION_METRICS[metric](_counts_of_cuts(places, labels, len(values)))
    possible = edges[:-1] < edges[1:]
    possible[-1] = True  # t = 1 is above no probability, so the last cut is there even at width 0
    best = possible & (scores >= scores[possible].max() - EQUAL)
    low, high = _widest_plateau(edges, best)
    middle = (low + high) / 2
    return float(middle if middle < high else low)


def _counts_of_cuts(places: IntArray, labels: IntArray, num_values: int) -> ClassCounts:
    """Counts (K, 2) of each cut k = 0..num_values: class 1 is answered from the k-th smallest probability on."""

    def below(rows: IntArray) -> FloatArray:
        return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_values))]).astype(np.float64)

    negatives, positives = below(places[labels == 0]), below(places[labels == 1])
    answered_negative = negatives + positives
    return ClassCounts(
        correct=np.stack([negatives, positives[-1] - positives], axis=-1),
        labelled=np.broadcast_to([negatives[-1], positives[-1]], (num_values + 1, 2)),
        predicted=np.stack([answered_negative, len(labels) - answered_negative], axis=-1),
    )


def _widest_plateau(edges: FloatArray, best: NDArray[np.bool_]) -> tuple[float, float]:
    """From where to where the widest run of best cuts goes; the first of equals."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[False], best, [False]])))
    starts, ends = edges[bounds[::2]], edges[bounds[1::2]]
    widest = int(np.argmax(ends - starts))
    return float(starts[widest]), float(ends[widest])


def cross_validate(
    logits: Array, labels: IntArray, classes: Sequence[str], kind: str, rule: DecisionRule, *, seed: int
) -> tuple[FloatArray, Array] | None:
    """Probabilities (N, C) and answers of rows that a rule like this was not fitted on.

    Each fifth of the rows, drawn by `seed` with its share of each class (or number of classes), is answered by a rule
    fitted on the other four. None when there are too few rows for that.
    """
    if len(labels) < 2 * FOLDS:
        return None
    shuffled = np.random.default_rng([seed, 2]).permutation(len(labels))
    fold, shared_out = np.empty(len(labels), np.int64), labels.sum(axis=1) if labels.ndim == 2 else labels
    fold[shuffled[np.argsort(shared_out[shuffled], kind="stable")]] = np.arange(len(labels)) % FOLDS
    probabilities, answers = np.empty(np.shape(logits)), np.empty(labels.shape, np.int64)
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
        probabilities[held] = _probabilities(calibrated(logits[held], fitted), kind)
        answers[held] = answers_of(probabilities[held], fitted, classes, kind)
    return probabilities, answers
