"""What the commands return and write: plain frozen records, to JSON and back."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StepRecord:
    """One optimizer update; a line of history.jsonl.

    step counts from 1. loss: mean over the update's rows. grad_norm: before clipping. learning_rate: the one that was
    used. seconds: in training so far, over all resumes. rows, tokens: of this update, padding left out.
    """

    step: int
    epoch: float
    loss: float
    grad_norm: float
    learning_rate: float
    seconds: float
    rows: int
    tokens: int

    def to_json(self) -> dict[str, Any]:
        return {"type": "train", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class EvalRecord:
    """One evaluation during training; a line of history.jsonl, metrics beside the fixed fields."""

    step: int
    epoch: float
    split: str
    loss: float
    metrics: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        fixed = {"step": self.step, "epoch": self.epoch, "split": self.split, "loss": self.loss}
        return {"type": "eval", **fixed, **self.metrics}


@dataclass(frozen=True)
class MetricValue:
    """A metric with its bootstrap interval; low and high are None when intervals are switched off or undefined."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = f" [{self.low:.3f}, {self.high:.3f}]" if self.low is not None and self.high is not None else ""
        return f"{self.value:.3f}{interval}"


@dataclass(frozen=True)
class ClassScore:
    """How one class was recognised; support counts its true rows."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class EvalReport:
    """The scores of one split; `eval/<split>/metrics.json`.

    baseline: the same metrics for always answering the commonest training class (or the mean, in regression).
    confusion: rows are true classes, columns predicted ones, in the order of `per_class`; empty in regression.
    """

    split: str
    n: int
    loss: float
    metrics: dict[str, MetricValue]
    baseline: dict[str, float]
    per_class: list[ClassScore] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A metric that is not defined on these rows (NaN) has the value null: JSON has no NaN."""
        fields = dataclasses.asdict(self)
        for metric in fields["metrics"].values():
            metric["value"] = metric["value"] if math.isfinite(metric["value"]) else None
        return fields

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> EvalReport:
        undefined = {"value": math.nan}
        metrics = {
            name: MetricValue(**(metric | undefined if metric["value"] is None else metric))
            for name, metric in value["metrics"].items()
        }
        per_class = [ClassScore(**score) for score in value["per_class"]]
        return cls(**{**value, "metrics": metrics, "per_class": per_class})


@dataclass(frozen=True)
class TrainReport:
    """How a training run ended. `resumed_from`: the update it went on from, 0 for a fresh start."""

    run_dir: Path
    steps: int
    best_step: int
    resumed_from: int
    seconds: float
    rows_per_second: float
    already_finished: bool
    evaluations: list[EvalReport]

    def to_json(self) -> dict[str, Any]:
        return {
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)},
            "run_dir": str(self.run_dir),
            "evaluations": [report.to_json() for report in self.evaluations],
        }


@dataclass(frozen=True)
class TrainingStarted:
    """What a display needs before the first update."""

    first_step: int
    num_updates: int
    device: str
    loop: str
