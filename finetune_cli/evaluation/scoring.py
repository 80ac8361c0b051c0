"""From logits to what a user reads: a split's report, and one prediction per row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.data.label_sets import named_label, set_in_words
from finetune_cli.evaluation.baseline import collapsed_class, majority_baseline
from finetune_cli.evaluation.confusion import confusion_matrix, per_class_report
from finetune_cli.evaluation.decision import answers_of, calibrated, cross_validate, is_confident
from finetune_cli.evaluation.metrics import SCORE_METRICS, compute_metrics, sigmoid, softmax
from finetune_cli.evaluation.set_metrics import collapsed_set
from finetune_cli.evaluation.uncertainty import bootstrap_intervals
from finetune_cli.records.decision_rule import DecisionRule
from finetune_cli.records.evaluation import Answered, ClassScore, DecisionEffect, EvalReport, MetricValue
from finetune_cli.system.files import replacing, write_json


@dataclass(frozen=True)
class ScoringRules:
    """How a task is scored: its kind, class names in order, metric names, and the bootstrap's size and level.

    decision: of a model that has a decision rule; None takes the likeliest class.
    """

    kind: str
    label_names: tuple[str, ...] | None
    metrics: tuple[str, ...]
    samples: int = 0
    level: float = 0.95
    seed: int = 0
    decision: DecisionRule | None = None


def to_scores(logits: np.ndarray, kind: str) -> np.ndarray:
    """What the metrics take: probabilities float64 (N, C), or in regression the predicted numbers (N,)."""
    if kind == "regression":
        return logits[:, 0].astype(np.float64)
    return sigmoid(logits) if kind == "multilabel" else softmax(logits)


def mean_loss(logits: np.ndarray, labels: np.ndarray, kind: str) -> float:
    """Mean cross-entropy (or squared error) over the rows, in float64: without class weights, label smoothing or focus.

    Multilabel: the mean over the classes, too, each a yes or no.
    """
    values = logits.astype(np.float64)
    if kind == "regression":
        return float(np.mean((values[:, 0] - labels) ** 2))
    if kind == "multilabel":
        return float(np.mean(np.logaddexp(0.0, np.where(labels == 1, -values, values))))
    shifted = values - values.max(axis=1, keepdims=True)
    log_normaliser = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(log_normaliser - shifted[np.arange(len(labels)), labels]))


def plain_scores(logits: np.ndarray, labels: np.ndarray, rules: ScoringRules) -> tuple[float, dict[str, float]]:
    """Loss and metrics without intervals: what training needs after each evaluation."""
    names = [name for name in rules.metrics if name != "loss"]
    metrics = compute_metrics(names, labels=labels, scores=to_scores(logits, rules.kind), kind=rules.kind)
    return mean_loss(logits, labels, rules.kind), metrics


def score_split(
    split: str, logits: np.ndarray, labels: np.ndarray, rules: ScoringRules, *, train_labels: np.ndarray
) -> EvalReport:
    """Everything said of one split. logits (N, C), labels (N,) or (N, C); `train_labels` make the baseline."""
    names = [name for name in rules.metrics if name != "loss"]
    logits = calibrated(logits, rules.decision)
    scores = to_scores(logits, rules.kind)
    metrics = metric_values(names, labels, scores, rules)
    num_classes = len(rules.label_names or ())
    baseline = majority_baseline(
        names, train_labels=train_labels, labels=labels, kind=rules.kind, num_classes=num_classes
    )
    per_class: list[ClassScore] = []
    confusion: list[list[int]] = []
    collapsed: str | None = None
    if rules.kind == "classification":
        predictions = answers_of(scores, rules.decision, rules.label_names or (), rules.kind)
        one_class = collapsed_class(labels, predictions)
        collapsed = None if one_class is None else (rules.label_names or ())[one_class]
        confusion = confusion_matrix(labels, predictions, num_classes).tolist()
        per_class = _class_scores(labels, predictions, rules)
    elif rules.kind == "multilabel":
        predictions = answers_of(scores, rules.decision, rules.label_names or (), rules.kind)
        one_set = collapsed_set(labels, predictions)
        collapsed = None if one_set is None else set_in_words(one_set, rules.label_names or ())
        per_class = _class_scores(labels, predictions, rules)
    return EvalReport(
        split=split,
        n=len(labels),
        loss=mean_loss(logits, labels, rules.kind),
        metrics=metrics,
        baseline=_finite(baseline),
        per_class=per_class,
        confusion=confusion,
        collapsed=collapsed,
    )


def _class_scores(labels: np.ndarray, predictions: np.ndarray, rules: ScoringRules) -> list[ClassScore]:
    names = rules.label_names or ()
    return [
        ClassScore(name, entry["precision"], entry["recall"], entry["f1"], int(entry["support"]))
        for name, entry in zip(names, per_class_report(labels, predictions, len(names)), strict=True)
    ]


def metric_values(
    names: Sequence[str],
    labels: np.ndarray,
    scores: np.ndarray,
    rules: ScoringRules,
    *,
    answers: np.ndarray | None = None,
) -> dict[str, MetricValue]:
    """Each metric with its interval; scores as `to_scores` gives them.

    answers: class numbers (N,) or sets (N, C), for metrics that look at these alone; None: what the rules make of the
    scores.
    """
    if answers is None and rules.decision is not None and rules.decision.thresholds:
        answers = answers_of(scores, rules.decision, rules.label_names or (), rules.kind)
    parts = [(list(names), scores)]
    if answers is not None:
        of_answers = [name for name in names if name not in SCORE_METRICS[rules.kind]]
        of_scores = [name for name in names if name in SCORE_METRICS[rules.kind]]
        as_scores = np.eye(scores.shape[1])[answers] if answers.ndim == 1 else answers.astype(np.float64)
        parts = [(of_answers, as_scores), (of_scores, scores)]
    values: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for part, taken in parts:
        values |= compute_metrics(part, labels=labels, scores=taken, kind=rules.kind)
        if rules.samples:
            intervals |= bootstrap_intervals(
                part,
                labels=labels,
                scores=taken,
                kind=rules.kind,
                samples=rules.samples,
                level=rules.level,
                seed=rules.seed,
            )
    return {name: _with_interval(values[name], intervals.get(name)) for name in names}


def decision_effect(
    split: str, logits: np.ndarray, labels: np.ndarray, rules: ScoringRules, *, metric: str
) -> DecisionEffect:
    """What the decision rule of `rules` changes on these rows: probabilities, and `metric` of the answers."""
    rule, classes = rules.decision, rules.label_names or ()
    assert rule is not None, "there is a rule to judge"
    names, without = [metric, "log_loss", "brier", "ece"], replace(rules, decision=None)
    fresh = None
    if rule.was_fitted_on(split, len(labels)):
        fresh = cross_validate(logits, labels, classes, rules.kind, rule, seed=rules.seed)
    return DecisionEffect(
        rule,
        before=metric_values(names, labels, to_scores(logits, rules.kind), without),
        after=metric_values(names, labels, to_scores(calibrated(logits, rule), rules.kind), rules),
        cross_validated=fresh and metric_values(names, labels, fresh[0], without, answers=fresh[1]),
    )


def score_answered(logits: np.ndarray, labels: np.ndarray, rules: ScoringRules, *, min_confidence: float) -> Answered:
    """The scores of the rows whose answer, one class, has at least this probability."""
    names = [name for name in rules.metrics if name != "loss"]
    probabilities = softmax(calibrated(logits, rules.decision))
    answers = answers_of(probabilities, rules.decision, rules.label_names or (), rules.kind)
    rows = is_confident(probabilities, answers, min_confidence)
    metrics = metric_values(names, labels[rows], probabilities[rows], rules) if rows.any() else {}
    return Answered(min_confidence, int(rows.sum()), float(rows.mean()), metrics)


def predictions(
    ids: Iterable[Any],
    logits: np.ndarray,
    *,
    label_names: Sequence[str] | None,
    multilabel: bool = False,
    probabilities: bool = True,
    labels: np.ndarray | None = None,
    decision: DecisionRule | None = None,
    min_confidence: float | None = None,
) -> Iterator[dict[str, Any]]:
    """One object per row, in order: {"id", "label" if known, "prediction", "probabilities" {name: p} if asked for}.

    label_names None means regression: label and prediction are numbers, and there are no probabilities. multilabel:
    label and prediction are lists of class names, of those with a probability of 0.5 or more, and each probability
    stands for itself. decision: of a model that has a rule. min_confidence: an answer with a lower probability becomes
    null.
    """
    if multilabel:
        scores = to_scores(calibrated(logits, decision), "multilabel")
        sets = answers_of(scores, decision, label_names or (), "multilabel")
        yield from _set_predictions(ids, scores, sets, label_names or (), probabilities=probabilities, labels=labels)
        return
    kind = "regression" if label_names is None else "classification"
    scores = to_scores(calibrated(logits, decision), kind)
    answers = None if label_names is None else answers_of(scores, decision, label_names, kind)
    for index, row_id in enumerate(ids):
        row: dict[str, Any] = {"id": row_id}
        if labels is not None:
            row["label"] = float(labels[index]) if label_names is None else label_names[int(labels[index])]
        if label_names is None or answers is None:
            row["prediction"] = float(scores[index])
        else:
            sure = min_confidence is None or scores[index, answers[index]] >= min_confidence
            row["prediction"] = label_names[int(answers[index])] if sure else None
            if probabilities:
                row["probabilities"] = dict(zip(label_names, map(float, scores[index]), strict=True))
        yield row


def _set_predictions(
    ids: Iterable[Any],
    scores: np.ndarray,
    answers: np.ndarray,
    names: Sequence[str],
    *,
    probabilities: bool,
    labels: np.ndarray | None,
) -> Iterator[dict[str, Any]]:
    for index, row_id in enumerate(ids):
        row: dict[str, Any] = {"id": row_id}
        if labels is not None:
            row["label"] = named_label(labels[index], names)
        row["prediction"] = named_label(answers[index], names)
        if probabilities:
            row["probabilities"] = dict(zip(names, map(float, scores[index]), strict=True))
        yield row


def write_evaluation(directory: Path, report: EvalReport, rows: Iterable[dict[str, Any]]) -> None:
    """Write metrics.json and predictions.jsonl into `directory`, each in one piece."""
    with replacing(directory / "predictions.jsonl") as file:
        file.writelines(chain.from_iterable((json.dumps(row, ensure_ascii=False), "\n") for row in rows))
    write_json(directory / "metrics.json", report.to_json())


def _with_interval(value: float, interval: tuple[float, float] | None) -> MetricValue:
    if interval is None or not np.isfinite(interval).all():
        return MetricValue(value)
    return MetricValue(value, *interval)


def _finite(values: dict[str, float]) -> dict[str, float]:
    """Without the metrics that are not defined for a constant predictor (a correlation)."""
    return {name: value for name, value in values.items() if np.isfinite(value)}
