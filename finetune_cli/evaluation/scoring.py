"""From logits to what a user reads: a split's report, and one prediction per row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.evaluation.baseline import majority_baseline
from finetune_cli.evaluation.confusion import confusion_matrix, per_class_report
from finetune_cli.evaluation.metrics import compute_metrics, softmax
from finetune_cli.evaluation.uncertainty import bootstrap_intervals
from finetune_cli.records import ClassScore, EvalReport, MetricValue
from finetune_cli.run_dir import replacing, write_json


@dataclass(frozen=True)
class ScoringRules:
    """How a task is scored: its kind, class names in order, metric names, and the bootstrap's size and level."""

    kind: str
    label_names: tuple[str, ...] | None
    metrics: tuple[str, ...]
    samples: int = 0
    level: float = 0.95
    seed: int = 0


def to_scores(logits: np.ndarray, kind: str) -> np.ndarray:
    """What the metrics take: probabilities float64 (N, C), or in regression the predicted numbers (N,)."""
    return logits[:, 0].astype(np.float64) if kind == "regression" else softmax(logits)


def mean_loss(logits: np.ndarray, labels: np.ndarray, kind: str) -> float:
    """Mean cross-entropy (or squared error) over the rows, in float64, without class weights or label smoothing."""
    values = logits.astype(np.float64)
    if kind == "regression":
        return float(np.mean((values[:, 0] - labels) ** 2))
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
    """Everything said of one split. logits (N, C), labels (N,); `train_labels` make the baseline."""
    loss, values = plain_scores(logits, labels, rules)
    scores = to_scores(logits, rules.kind)
    intervals: dict[str, tuple[float, float]] = {}
    if rules.samples:
        intervals = bootstrap_intervals(
            list(values),
            labels=labels,
            scores=scores,
            kind=rules.kind,
            samples=rules.samples,
            level=rules.level,
            seed=rules.seed,
        )
    num_classes = len(rules.label_names or ())
    baseline = majority_baseline(
        list(values), train_labels=train_labels, labels=labels, kind=rules.kind, num_classes=num_classes
    )
    per_class: list[ClassScore] = []
    confusion: list[list[int]] = []
    if rules.kind == "classification":
        predictions = scores.argmax(axis=1)
        confusion = confusion_matrix(labels, predictions, num_classes).tolist()
        per_class = [
            ClassScore(name, entry["precision"], entry["recall"], entry["f1"], int(entry["support"]))
            for name, entry in zip(
                rules.label_names or (), per_class_report(labels, predictions, num_classes), strict=True
            )
        ]
    return EvalReport(
        split=split,
        n=len(labels),
        loss=loss,
        metrics={name: _with_interval(value, intervals.get(name)) for name, value in values.items()},
        baseline=_finite(baseline),
        per_class=per_class,
        confusion=confusion,
    )


def predictions(
    ids: Iterable[Any],
    logits: np.ndarray,
    *,
    label_names: Sequence[str] | None,
    probabilities: bool = True,
    labels: np.ndarray | None = None,
) -> Iterator[dict[str, Any]]:
    """One object per row, in order: {"id", "label" if known, "prediction", "probabilities" {name: p} if asked for}.

    label_names None means regression: label and prediction are numbers, and there are no probabilities.
    """
    kind = "regression" if label_names is None else "classification"
    scores = to_scores(logits, kind)
    for index, row_id in enumerate(ids):
        row: dict[str, Any] = {"id": row_id}
        if labels is not None:
            row["label"] = float(labels[index]) if label_names is None else label_names[int(labels[index])]
        if label_names is None:
            row["prediction"] = float(scores[index])
        else:
            row["prediction"] = label_names[int(scores[index].argmax())]
            if probabilities:
                row["probabilities"] = dict(zip(label_names, map(float, scores[index]), strict=True))
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
