"""How a sweep ended."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from finetune_cli.records.comparison import Comparison
from finetune_cli.records.evaluation import Corrected, MetricValue

TrialState = Literal["complete", "pruned", "failed", "running"]


@dataclass(frozen=True)
class TrialResult:
    """One trial: the settings that were tried and how it ended.

    score: of a complete trial, of a pruned one its last, without interval. seconds: of training. error: why it failed.
    defaults: it has the config's own values.
    """

    number: int
    state: TrialState
    values: dict[str, Any]
    score: MetricValue | None
    n: int | None
    seconds: float
    error: str | None
    defaults: bool


@dataclass(frozen=True)
class Finalist:
    """One of the best settings, trained again with several seeds: mean over seeds with Student's t interval."""

    number: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class ComparedTrials:
    """The best trial, side a, against trial `number`, side b, on the same rows."""

    number: int
    comparison: Comparison


@dataclass(frozen=True)
class SearchedSetting:
    """What the trials say of one setting.

    importance: share of the variance between good and other trials that goes with it (PED-ANOVA), sd: over resampled
    trials; None for too few trials. bound: "low" or "high" when the best value lies in that tenth of the range.
    """

    key: str
    best: Any
    importance: float | None
    sd: float | None
    bound: str | None


@dataclass(frozen=True)
class SweepReport:
    """The trials of a sweep and what is known of the best; `summary.json`.

    best: its number; None when no trial is complete. corrected: the best trial's score, less what choosing it among the
    `candidates` adds, which are all evaluations of all complete trials; None where that cannot be computed.
    comparisons: the best against the runner-up and against the config's own values.
    """

    run_dir: Path
    metric: str
    greater_is_better: bool
    trials: list[TrialResult]
    best: int | None
    candidates: int = 0
    corrected: Corrected | None = None
    comparisons: list[ComparedTrials] = field(default_factory=list)
    finalists: list[Finalist] = field(default_factory=list)
    settings: list[SearchedSetting] = field(default_factory=list)

    def trial(self, number: int) -> TrialResult:
        return next(one for one in self.trials if one.number == number)

    def to_json(self) -> dict[str, Any]:
        return _plain({**dataclasses.asdict(self), "run_dir": str(self.run_dir)})


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
