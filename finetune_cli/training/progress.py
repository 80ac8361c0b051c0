"""How far a training run has come, what is due when, and which evaluation is the best so far: decided here alone."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from finetune_cli.records.plain import plain

logger = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class BestRule:
    """Which evaluation is the best: a metric of the split "validation", its direction, and when to give up.

    metric: None for the last one, whatever the scores are.
    """

    metric: str | None
    greater_is_better: bool = True
    patience: int | None = None
    min_delta: float = 0.0

    def improves(self, score: float, best: float | None, *, by: float = 0.0) -> bool:
        """Strictly better, so that the earliest of equals stays; NaN never is."""
        if math.isnan(score):
            return False
        return best is None or (score - best if self.greater_is_better else best - score) > by

    def update(self, progress: Progress, loss: float, metrics: dict[str, float], *, is_last: bool) -> bool:
        """Whether the evaluation after update `progress.step` is the best so far; `progress` keeps what it changes.

        loss, metrics: the scores. is_last: no further update is planned.
        """
        if self.metric is None:
            progress.best_step = progress.step if is_last else 0
            return False
        score = loss if self.metric == "loss" else metrics[self.metric]
        if math.isnan(score):
            return self._lowest_loss_is_best(progress, loss)
        gained = self.improves(score, progress.best_score, by=self.min_delta)
        progress.evaluations_without_gain = 0 if gained else progress.evaluations_without_gain + 1
        if not self.improves(score, progress.best_score):
            return False
        progress.best_score, progress.best_step = plain(score), progress.step
        return True

    def gave_up(self, progress: Progress) -> bool:
        return self.patience is not None and progress.evaluations_without_gain >= self.patience

    def _lowest_loss_is_best(self, progress: Progress, loss: float) -> bool:
        """Where the score is not defined: patience is kept for scores that are, and the loss decides until there is
        one, since a finished run has a model. Said once, and again for each evaluation after one that was defined."""
        if progress.best_score is not None:
            logger.warning("Update %d: %s is not defined for these answers: not the best", progress.step, self.metric)
        elif progress.best_loss is None:
            logger.warning(
                "Update %d: %s is not defined for these answers, so that it cannot choose the best model. Until it is, "
                "the lowest loss does.",
                progress.step,
                self.metric,
            )
        is_lower = not math.isnan(loss) and (progress.best_loss is None or loss < progress.best_loss)
        if progress.best_score is not None or (progress.best_step and not is_lower):
            return False
        progress.best_loss, progress.best_step = plain(loss), progress.step
        return True
