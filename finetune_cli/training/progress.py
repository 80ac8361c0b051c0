"""How far a training run has come, and what is due when."""

from dataclasses import dataclass


@dataclass
class Progress:
    """What a continued run needs beside weights, optimizer and generators.

    evaluated_step: the last update after which the model was scored. history_bytes: length of history.jsonl.
    skipped_updates: those that were not finite and left the weights as they were.
    """

    step: int = 0
    seconds: float = 0.0
    history_bytes: int = 0
    evaluated_step: int = 0
    best_step: int = 0
    best_score: float | None = None
    best_loss: float | None = None  # of best_step, while its score is not defined
    evaluations_without_gain: int = 0
    skipped_updates: int = 0


@dataclass(frozen=True)
class Cadence:
    """When things happen, in updates; `evaluate_every` and `save_every` None stand for the end of each epoch."""

    num_updates: int
    updates_per_epoch: int
    evaluate_every: int | None
    save_every: int | None
    save_every_seconds: float | None

    def due(self, step: int, every: int | None) -> bool:
        return step == self.num_updates or step % (every or self.updates_per_epoch) == 0

    def epoch(self, step: int) -> float:
        return step / self.updates_per_epoch
