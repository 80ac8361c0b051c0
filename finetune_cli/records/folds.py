"""How a cross-validation ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.plain import as_json
from finetune_cli.records.training import SplitSummary, TrainReport
from finetune_cli.records.verdicts import GateOutcome


@dataclass(frozen=True)
class FoldsReport:
    """The same training with each fold held out in turn; `summary.json`.

    n, repeats: of data.folds; folds are numbered from 1 to n x repeats. level: of the intervals. runs: of the folds
    that finished. failed: fold -> error. pooled: every row as the fold of the first repeat answered it that had not
    trained on it, with intervals over the rows; None while folds are missing. splits: each score over the folds, with
    the corrected resampled t interval. gates: held against the pooled scores. final: the training on all rows, where
    there was one.
    """

    run_dir: Path
    n: int
    repeats: int
    level: float
    runs: dict[int, TrainReport]
    failed: dict[int, str]
    pooled: EvalReport | None
    splits: list[SplitSummary]
    gates: list[GateOutcome] = field(default_factory=list)
    final: TrainReport | None = None

    @property
    def num_folds(self) -> int:
        return self.n * self.repeats

    @property
    def seconds(self) -> float:
        return sum(run.seconds for run in self.runs.values())

    @property
    def evaluations(self) -> list[EvalReport]:
        return [self.pooled] if self.pooled else []

    def to_json(self) -> dict[str, Any]:
        final = {"final": self.final.in_short} if self.final else {}
        runs = {"runs": {fold: run.in_short for fold, run in self.runs.items()}}
        return as_json(self, drop_null=("final",)) | runs | final
