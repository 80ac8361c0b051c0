"""From logits to what a user reads: a split's report, and one prediction per row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.data.label_sets import named_label
from finetune_cli.evaluation.decision import answers_of, calibrated, cross_validate, is_confident
from finetune_cli.evaluation.intervals.by_family import scored_metrics
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import TaskKind
from finetune_cli.evaluation.metrics import compute_metrics, majority_baseline
from finetune_cli.evaluation.scored_rows import ScoredRows, scored_rows
from finetune_cli.records.decision_rule import DecisionRule
from finetune_cli.records.evaluation import MANY_CLASSES, Answered, DecisionEffect, EvalReport
from finetune_cli.records.resampling import NO_INTERVALS, Resampling
from finetune_cli.system.files import replacing, write_json
from finetune_cli.tasks import Kind

LIKELIEST = 10  # classes of many whose probabilities a row has


@dataclass(frozen=True)
class ScoringRules:
    """How a task is scored: its kind, class names in order, metric names, and how the intervals are drawn.

    decision: of a model that has a decision rule; None takes the likeliest class.
    """

    kind: Kind
    label_names: tuple[str, ...] | None
    metrics: tuple[str, ...]
    resampling: Resampling = NO_INTERVALS
    decision: DecisionRule | None = None

    @property
    def task(self) -> TaskKind:
        return KINDS[self.kind]

    @property
    def classes(self) -> tuple[str, ...]:
        """None of them in regression."""
        return self.label_names or ()

    @property
    def names(self) -> list[str]:
        """The metrics of rows: all but the loss, which comes with the logits."""
        return [name for name in self.metrics if name != "loss"]

    def scored(self, logits: np.ndarray, labels: np.ndarray) -> ScoredRows:
        """The scores of logits (N, C), at the rule's temperature, and the answers by its thresholds."""
        scores = self.task.scores(calibrated(logits, self.decision))
        answers = answers_of(scores, self.decision, self.classes, self.kind)
        return scored_rows(labels, scores, self.kind, answers)


def plain_scores(logits: np.ndarray, labels: np.ndarray, rules: ScoringRules) -> tuple[float, dict[str, float]]:
    """Loss and metrics without intervals: what training needs after each evaluation."""
    rows = scored_rows(labels, rules.task.scores(logits), rules.kind)
    return rules.task.loss(logits, labels), compute_metrics(rules.names, rows)


def score_split(
    split: str, logits: np.ndarray, labels: np.ndarray, rules: ScoringRules, *, train_labels: np.ndarray
) -> EvalReport:
    """Everything said of one split. logits (N, C), labels (N,) or (N, C); `train_labels` make the baseline."""
    task, classes, rows = rules.task, rules.classes, rules.scored(logits, labels)
    answers, resampling = rows.answers, rules.resampling
    baseline = majority_baseline(
        rules.names, train_labels=train_labels, labels=labels, kind=rules.kind, num_classes=len(classes)
    )
    return EvalReport(
        split=split,
        n=len(labels),
        loss=task.loss(calibrated(logits, rules.decision), labels),
        metrics=scored_metrics(rules.names, rows, resampling),
        baseline=_finite(baseline),
        per_class=task.per_class(labels, answers, classes, resampling.level if resampling.samples else None),
        confusion=task.confusion(labels, answers, len(classes)),
        confusion_cells=task.confusion_cells(labels, answers, len(classes)),
        collapsed=task.collapsed(labels, answers, classes),
    )


def decision_effect(
    split: str, logits: np.ndarray, labels: np.ndarray, rules: ScoringRules, *, metric: str
) -> DecisionEffect:
    """What the decision rule of `rules` changes on these rows: probabilities, and `metric` of the answers."""
    rule = rules.decision
    assert rule is not None, "there is a rule to judge"
    names = [metric, "log_loss", "brier", "ece"]

    fresh = None
    if rule.was_fitted_on(split, len(labels)):
        fresh = cross_validate(logits, labels, rules.classes, rules.kind, rule, seed=rules.resampling.seed)
    return DecisionEffect(
        rule,
        before=scored_metrics(names, replace(rules, decision=None).scored(logits, labels), rules.resampling),
        after=scored_metrics(names, rules.scored(logits, labels), rules.resampling),
        cross_validated=None if fresh is None else scored_metrics(names, fresh, rules.resampling),
    )


def score_answered(logits: np.ndarray, labels: np.ndarray, rules: ScoringRules, *, min_confidence: float) -> Answered:
    """The scores of the rows whose answer, one class, has at least this probability."""
    rows = rules.scored(logits, labels)
    sure = is_confident(rows.scores, rows.answers, min_confidence)
    metrics = scored_metrics(rules.names, rows.at(sure), rules.resampling) if sure.any() else {}
    return Answered(min_confidence, int(sure.sum()), float(sure.mean()), metrics)


def predictions(
    ids: Iterable[Any],
    logits: np.ndarray,
    *,
    kind: Kind,
    label_names: Sequence[str] | None,
    probabilities: bool = True,
    labels: np.ndarray | None = None,
    decision: DecisionRule | None = None,
    min_confidence: float | None = None,
    all_probabilities: bool = False,
) -> Iterator[dict[str, Any]]:
    """One object per row, in order: {"id", "label" if known, "prediction", "probabilities" {name: p} if asked for}.

    Of more than 100 classes, unless `all_probabilities`, the ten likeliest have one, and those of label and prediction;
    "rest" is what the others have together.

    Label and prediction are the class's name; with several labels a row, lists of names, and each probability stands
    for itself; in regression (label_names None) numbers, and there are no probabilities. decision: of a model that has
    a rule. min_confidence: an answer with a lower probability, of one class, becomes null; a rule's own bound is the
    caller's to hand on.
    """
    scores = KINDS[kind].scores(calibrated(logits, decision))
    answers = answers_of(scores, decision, label_names or (), kind)
    sure = None if min_confidence is None else is_confident(scores, answers, min_confidence)
    for index, row_id in enumerate(ids):
        row: dict[str, Any] = {"id": row_id}
        if labels is not None:
            row["label"] = named_label(labels[index], label_names)
        row["prediction"] = named_label(answers[index], label_names) if sure is None or sure[index] else None
        if probabilities and label_names is not None:
            if all_probabilities or len(label_names) <= MANY_CLASSES:
                row["probabilities"] = dict(zip(label_names, map(float, scores[index]), strict=True))
            else:
                shown = [answers[index], *([] if labels is None else [labels[index]])]
                row |= _likeliest(scores[index], label_names, shown)
        yield row


def _likeliest(scores: np.ndarray, names: Sequence[str], shown: Sequence[Any]) -> dict[str, Any]:
    """The probabilities of the likeliest of many classes (C,), and of the classes `shown`: numbers, or sets of them."""
    chosen = set(np.argpartition(scores, -LIKELIEST)[-LIKELIEST:].tolist())
    for answer in shown:
        chosen |= set(np.flatnonzero(answer).tolist()) if np.ndim(answer) else {int(answer)}
    ordered = sorted(chosen, key=lambda number: (-scores[number], number))
    rest = float(scores.sum() - scores[ordered].sum())
    return {"probabilities": {names[number]: float(scores[number]) for number in ordered}, "rest": max(rest, 0.0)}


def write_evaluation(directory: Path, report: EvalReport, rows: Iterable[dict[str, Any]]) -> None:
    """Write metrics.json and predictions.jsonl into `directory`, each in one piece."""
    with replacing(directory / "predictions.jsonl") as file:
        file.writelines(chain.from_iterable((json.dumps(row, ensure_ascii=False), "\n") for row in rows))
    write_json(directory / "metrics.json", report.to_json())


def _finite(values: dict[str, float]) -> dict[str, float]:
    """Without the metrics that are not defined for a constant predictor (a correlation)."""
    return {name: value for name, value in values.items() if np.isfinite(value)}
