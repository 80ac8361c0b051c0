"""How a sweep ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from finetune_cli.errors import counted
from finetune_cli.records.comparison import Comparison
from finetune_cli.records.evaluation import Corrected, MetricValue, PairedDifference
from finetune_cli.records.plain import as_json
from finetune_cli.records.verdicts import GateOutcome

TrialState = Literal["complete", "pruned", "failed", "running"]


@dataclass(frozen=True)
class TrialResult:
    """One trial: the settings that were tried and how it ended.

    score: of a complete trial, of a pruned one its last, without interval. seconds: of training. error: why it failed.
    defaults: it has the config's own values. collapsed: the class that a complete trial's model gives to every row.
    """

    number: int
    state: TrialState
    values: dict[str, Any]
    score: MetricValue | None
    n: int | None
    seconds: float
    error: str | None
    defaults: bool
    collapsed: str | None = None

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        return self.state if self.collapsed is None else f"{self.state}, collapsed"


@dataclass(frozen=True)
class Finalist:
    """One of the best settings, trained again with several seeds: mean over seeds with Student's t interval.

    collapsed: the seeds whose models give every row one answer.
    """

    number: int
    mean: float
    sd: float
    low: float
    high: float
    collapsed: list[int] = field(default_factory=list)

    @property
    def said_of_seeds(self) -> str:
        """Which seeds collapsed; empty where none did."""
        return f"collapsed: seed {', '.join(map(str, self.collapsed))}" if self.collapsed else ""


@dataclass(frozen=True)
class ComparedTrials:
    """The best trial, side a, against trial `number`, side b, on the same rows."""

    number: int
    comparison: Comparison

    @property
    def ahead(self) -> PairedDifference:
        """The best less the other, as the terminal and the page show it. p is adjusted for all comparisons."""
        comparison = self.comparison
        difference, low, high = (0.0 - value for value in (comparison.difference, comparison.high, comparison.low))
        return PairedDifference(difference, low, high, comparison.p_adjusted, comparison.method)

    @property
    def verdict(self) -> str:
        """On the best."""
        return {"worse": "better", "better": "worse"}.get(self.comparison.verdict, self.comparison.verdict)


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

    best: its number; None when no trial is complete. folds: of each trial, where they score it. corrected: the best
    trial's score, less what choosing it among the `candidates` adds: all evaluations of all trials, of pruned ones too;
    with folds the trials themselves. None where that cannot be computed.
    comparisons: the best against the runner-up and against the config's own values, p values adjusted for both (Holm).
    gates: held against the best trial's scores, `.corrected` against the score corrected for the sweep's choice.
    """

    run_dir: Path
    metric: str
    greater_is_better: bool
    trials: list[TrialResult]
    best: int | None
    folds: int | None = None
    candidates: int = 0
    corrected: Corrected | None = None
    comparisons: list[ComparedTrials] = field(default_factory=list)
    finalists: list[Finalist] = field(default_factory=list)
    settings: list[SearchedSetting] = field(default_factory=list)
    gates: list[GateOutcome] = field(default_factory=list)

    def trial(self, number: int) -> TrialResult:
        return next(trial for trial in self.trials if trial.number == number)

    def count(self, *states: TrialState) -> int:
        return sum(trial.state in states for trial in self.trials)

    def role(self, number: int) -> str:
        """What a trial that the best is compared with stands for."""
        return "the config's own values" if self.trial(number).defaults else "the runner-up"

    @property
    def said_of_choice(self) -> str:
        """What the best was chosen among, and what its score is worth therefore."""
        complete, tried = (counted(self.count(*states), "trial") for states in (("complete",), ("complete", "pruned")))
        among = f"The best of {complete} by {self.metric}, on the rows that score it"
        if self.candidates == 1:
            return "It is the only evaluation, so its score needs no correction."
        if self.corrected is None:
            return f"{among}: its score is too good by an unknown amount. Score a split that took no part."
        if self.folds is not None:
            return (
                f"{among}. Corrected for that choice: {self.metric} {self.corrected}. That each fold keeps the best of "
                "its own evaluations is not taken off; with evaluation.metric_for_best: null it does not."
            )
        return (
            f"{among}. Corrected for the choice among {self.candidates} evaluations of {tried}: {self.metric} "
            f"{self.corrected}."
        )

    @property
    def said_of_comparisons(self) -> str:
        adjusted = f"P values are adjusted for {len(self.comparisons)} comparisons (Holm). "
        flattered = "The best was chosen on these rows, so that they flatter it: only a clear difference counts."
        return (adjusted if len(self.comparisons) > 1 else "") + flattered

    def to_json(self) -> dict[str, Any]:
        return as_json(self)
