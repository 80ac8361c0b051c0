"""What one training run is about, in one object that the functions of `runs` and `commands` hand on."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.prepared import PreparedData
from finetune_cli.evaluation.scoring import ScoringRules
from finetune_cli.records.training import Listener
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.training.checkpointing import Checkpoints


@dataclass(frozen=True)
class RunContext:
    """One run: where its files are, what is trained on which rows, how they are scored, and who listens.

    offline: nothing is fetched from the Hub.
    """

    run: RunDir
    config: RunConfig
    prepared: PreparedData
    rules: ScoringRules
    offline: bool
    listen: Listener

    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.run.checkpoints, keep=self.config.checkpointing.keep)
