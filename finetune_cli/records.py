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
class ComparedSide:
    """One side of a comparison: a run, or the runs of one setting with several seeds.

    metrics: bootstrap intervals over rows; of several seeds the means, with Student's t intervals over seeds.
    sd: standard deviation over seeds; empty for one run. seeds: empty for a predictions file.
    """

    name: str
    runs: list[str]
    seeds: list[int]
    metrics: dict[str, MetricValue]
    sd: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfigDifference:
    """A key of the config in which sides differ: its value on each side that has a config."""

    key: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Side b against side a on one metric; difference = b - a, with its interval and two-sided p value.

    verdict on b: "better" | "worse" | "no difference" | "undefined". method: "mcnemar" | "bootstrap" | "seeds".
    only_a, only_b: rows that only this side has right, where the method is McNemar's.
    """

    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float
    method: str
    verdict: str
    sentence: str
    only_a: int | None = None
    only_b: int | None = None


@dataclass(frozen=True)
class CompareReport:
    """Runs compared with the first on n paired rows. seeds: each side is several seeds of one setting.

    split: None when only predictions files were compared.
    """

    split: str | None
    n: int
    level: float
    samples: int
    seeds: bool
    sides: list[ComparedSide]
    config_differences: list[ConfigDifference]
    comparisons: list[Comparison]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


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
