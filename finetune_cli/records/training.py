"""What a training tells while it runs, and how it ended: of one run, of several seeds, of a dry run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_cli.records.evaluation import Corrected, EvalReport, MetricValue
from finetune_cli.records.plain import as_json, plain
from finetune_cli.records.verdicts import GateOutcome


@dataclass(frozen=True)
class MemberStarted:
    """One of several runs begins, such as that of a seed: its kind and number, and its place among `count` from 1."""

    kind: str
    key: float
    place: int
    count: int


@dataclass(frozen=True)
class TrainingStarted:
    """What a display needs before the first update."""

    first_step: int
    num_updates: int
    device: str
    loop: str


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
    """One evaluation during training; a line of history.jsonl, metrics beside the fixed fields.

    best: this is the best model so far, over all resumes; on the split "validation" alone, which decides. For
    listeners: a line of history.jsonl has the scores only, and the run's last best step is in run.json.
    """

    step: int
    epoch: float
    split: str
    loss: float
    metrics: dict[str, float]
    best: bool = False

    def to_json(self) -> dict[str, Any]:
        fixed = {"step": self.step, "epoch": self.epoch, "split": self.split, "loss": self.loss}
        return {"type": "eval", **fixed, **self.metrics}


TrainingEvent = MemberStarted | TrainingStarted | StepRecord | EvalRecord
Listener = Callable[[TrainingEvent], None]


@dataclass(frozen=True)
class TrainReport:
    """How a training run ended.

    resumed_from: the update it went on from, 0 for a fresh start. uploaded_to: the commit on the Hub. stopped_early: by
    training.early_stopping.
    """

    run_dir: Path
    steps: int
    best_step: int
    resumed_from: int
    seconds: float
    rows_per_second: float
    already_finished: bool
    evaluations: list[EvalReport]
    uploaded_to: str | None = None
    stopped_early: bool = False

    def to_json(self) -> dict[str, Any]:
        return as_json(self)

    @property
    def in_short(self) -> dict[str, Any]:
        """What a summary says of each of several runs."""
        return {"run_dir": str(self.run_dir), "steps": self.steps, "best_step": self.best_step, "seconds": self.seconds}


@dataclass(frozen=True)
class SeedSummary:
    """One score over runs that differ in their seed or fold alone: sd with n - 1, and the interval of the mean, which
    covers the choice of rows too; nan for one run."""

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class SeedScore(SeedSummary):
    """values: by seed or fold."""

    values: dict[int, float]


@dataclass(frozen=True)
class SplitSummary:
    """Scores over seeds on one split. metrics: "loss" too. collapsed: seed -> the one class it gave to every row."""

    split: str
    n: int
    metrics: dict[str, SeedScore]
    collapsed: dict[int, str]

    @property
    def means(self) -> dict[str, MetricValue]:
        return {
            name: MetricValue(score.mean, plain(score.low), plain(score.high)) for name, score in self.metrics.items()
        }


@dataclass(frozen=True)
class BestSeed:
    """The seed whose model scores best on validation, and what that is worth.

    metric: by which it is the best of `candidates`, all evaluations of all seeds. score: as it is. corrected: without
    what the choice added; None where a seed kept no predictions of its evaluations.
    """

    seed: int
    metric: str
    score: MetricValue
    candidates: int
    corrected: Corrected | None

    def __str__(self) -> str:
        best = f"Best by {self.metric}: seed {self.seed}, {self.score}"
        if self.corrected is None:
            return f"{best}: too good by an unknown amount, because it was chosen on these rows."
        return f"{best}; corrected for choosing the best of {self.candidates}: {self.corrected}."


@dataclass(frozen=True)
class SeedsReport:
    """The same training with several seeds; `summary.json`.

    runs: of the seeds that finished, by seed. failed: seed -> error. level: of the intervals. gates: held against the
    means, and `.low` and `.high` against the ends of their intervals. best: None when its metric is not defined.
    """

    run_dir: Path
    seeds: list[int]
    level: float
    runs: dict[int, TrainReport]
    failed: dict[int, str]
    splits: list[SplitSummary]
    gates: list[GateOutcome] = field(default_factory=list)
    best: BestSeed | None = None

    @property
    def seconds(self) -> float:
        return sum(run.seconds for run in self.runs.values())

    @property
    def already_finished(self) -> bool:
        return all(run.already_finished for run in self.runs.values())

    def to_json(self) -> dict[str, Any]:
        return as_json(self, drop_null=("best",)) | {"runs": {seed: run.in_short for seed, run in self.runs.items()}}


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training takes; see training.memory. program: of the process itself, 0 for a device of its own."""

    program: int
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))


@dataclass(frozen=True)
class DryRunReport:
    """What training would take, from a few updates on one process.

    micro_batch_tokens: as configured. trained_parameters: without frozen ones, and without the embeddings of words that
    no training row has. runs: as many as there are seeds. updates, evaluations: of one run, its final scoring
    included. seconds_per_update: the median over all lengths of rows; the mean is what the estimate multiplies.
    peak_memory_bytes: of this process. device_memory_bytes: reserved on a CUDA device, of device_memory_total_bytes;
    both None elsewhere.
    """

    device: str
    precision: str
    loop: str
    micro_batch_size: int
    parameters: int
    trained_parameters: int
    runs: int
    updates: int
    updates_per_epoch: int
    seconds_per_update: float
    mean_seconds_per_update: float
    seconds_longest_update: float
    evaluations: int
    seconds_per_evaluation: float
    estimated_seconds: float
    peak_memory_bytes: int
    device_memory_bytes: int | None
    device_memory_total_bytes: int | None
    estimated_memory: MemoryEstimate
    micro_batch_tokens: int | None = None

    def to_json(self) -> dict[str, Any]:
        content = dataclasses.asdict(self)
        content["estimated_memory"]["total"] = self.estimated_memory.total
        return content
