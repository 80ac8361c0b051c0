"""What happens after each update, the same for both loops: history, evaluation, best step, checkpoints, stopping."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from accelerate import Accelerator
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from finetune_cli.errors import RunFailedError, counted
from finetune_cli.records.training import EvalRecord, Listener, StepRecord
from finetune_cli.system.signals import StopRequest, stop_error
from finetune_cli.training.checkpointing import Checkpoints
from finetune_cli.training.history import History
from finetune_cli.training.kept_predictions import KeptPredictions
from finetune_cli.training.progress import BestRule, Cadence, Progress
from finetune_cli.training.readings import NOTHING_READ, Reading, send_reading

logger = logging.getLogger(__name__)

Scores = tuple[float, dict[str, float]]  # loss and metrics
Evaluate = Callable[[Accelerator, Callable[[], None]], Mapping[str, Scores]]


@dataclass(frozen=True)
class _Update:
    """A finished update whose loss and gradient norm may still be on the device: NaN in its record till then."""

    record: StepRecord
    rows: np.ndarray
    read: Callable[[], Reading]


class _StopDuringEvaluation(Exception):
    """A signal arrived while the model was being scored; the scores are left for the continued run."""


@dataclass(eq=False)
class Monitor:
    """Follows one training run. The loop calls `start` once and `after_update` after each finished update.

    A context manager, which closes the history.

    accelerator: the loop's. schedule: not prepared. resume_from: the checkpoint to go on from.
    rows_of(step): the row numbers and the token count of an update, for the record and for messages.
    evaluate(accelerator, check): the scores by validation split, "validation" first, on all processes alike; calls
    `check` between batches. None, with a best_rule without metric, when there is nothing to score on.
    kept: given what each evaluation found of the rows; it goes into every checkpoint.
    add_files: writes what the loop needs besides into the folder of a checkpoint, in the main process.
    lag: how many updates an accelerator may run ahead of what is read of them, so that the host never waits for the
    newest one; 0 reads each at once. All are read before an evaluation, a checkpoint and the end. The number is fixed,
    so that several processes decide alike.
    """

    accelerator: Accelerator
    schedule: LRScheduler
    _: KW_ONLY
    cadence: Cadence
    best_rule: BestRule
    checkpoints: Checkpoints
    history: History
    rows_of: Callable[[int], tuple[np.ndarray, int]]
    evaluate: Evaluate
    kept: KeptPredictions = field(default_factory=KeptPredictions)
    stop: StopRequest
    resume_from: Path | None = None
    add_files: Callable[[Path], None] | None = None
    skip_nonfinite: bool = False
    listen: Listener = lambda event: None
    lag: int = 0

    def __post_init__(self) -> None:
        self.unread: deque[_Update] = deque()
        self.last_reading = NOTHING_READ
        self.progress = Progress()
        self.began = self.saved_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.history.close()

    def start(self) -> bool:
        """Restore the run when there is a checkpoint; True when nothing is left to train.

        Call it when model and optimizer are prepared, right before the first update.
        """
        if self.resume_from is not None:
            self.progress = self.checkpoints.restore(self.resume_from, self.accelerator, self.schedule)
            self.kept.restore(self.resume_from)
        if not self._finished():
            self.checkpoints.require_room(self.accelerator, self.schedule.optimizer)
        step = self.progress.step
        if self.accelerator.is_main_process:
            self.history.require(self.progress.history_bytes)
            self.checkpoints.remove_after(step)
            self.history.open(self.progress.history_bytes)
        self.saved_at = time.monotonic()
        self.began = self.saved_at - self.progress.seconds
        if step and self.progress.evaluated_step < step and self.cadence.due(step, self.cadence.evaluate_every):
            self._evaluate_and_save()  # the stop came during this evaluation
        return self._finished()

    def after_update(self, *, loss: Tensor, grad_norm: Tensor, learning_rate: float) -> bool:
        """Record the update and do what is due; True when training is over.

        loss: of this process's rows of the whole update; its mean over processes is recorded. grad_norm: of the whole.
        Both 0-d and on the device. Raises RunFailedError on a loss or gradient that is not finite, NotFinishedError or
        InterruptedRunError after a signal, with a complete checkpoint written.
        """
        progress, cadence = self.progress, self.cadence
        progress.step += 1
        progress.seconds = time.monotonic() - self.began
        self.unread.append(self._sent(loss, grad_norm, learning_rate))
        scoring_is_due = cadence.due(progress.step, cadence.evaluate_every)
        self._read(leave=0 if scoring_is_due or cadence.due(progress.step, cadence.save_every) else self.lag)
        signal_number = self._signal()
        if scoring_is_due and not signal_number:
            self._evaluate_and_save()
        elif signal_number or self._save_is_due():
            self._save()
        if signal_number:
            self._raise_stopped(signal_number)
        return self._finished()

    def _sent(self, loss: Tensor, grad_norm: Tensor, learning_rate: float) -> _Update:
        """The update just finished, whose loss and norm are on their way to the host."""
        step, seconds = self.progress.step, self.progress.seconds
        read = send_reading(
            self.accelerator,
            loss,
            grad_norm,
            signal_number=self.stop.signal_number,
            seconds_since_save=time.monotonic() - self.saved_at,
        )
        rows, tokens = self.rows_of(step)
        epoch = self.cadence.epoch(step)
        record = StepRecord(step, epoch, math.nan, math.nan, learning_rate, seconds, len(rows), tokens)
        return _Update(record, rows, read)

    def _read(self, *, leave: int) -> None:
        """Record the oldest updates until only so many are unread."""
        while len(self.unread) > leave:
            update = self.unread.popleft()
            reading = self.last_reading = update.read()
            record = replace(update.record, loss=reading.loss, grad_norm=reading.grad_norm)
            if not (math.isfinite(record.loss) and math.isfinite(record.grad_norm)):
                if not (self.skip_nonfinite or self._is_left_to_scaler(record)):
                    raise RunFailedError(_nonfinite_message(record, update.rows))
                self.progress.skipped_updates += 1
            self._note(record)

    def _is_left_to_scaler(self, record: StepRecord) -> bool:
        """With fp16 an infinite gradient is how the scaler finds its scale: it leaves that step out by itself."""
        return math.isfinite(record.loss) and self.accelerator.scaler is not None

    def _signal(self) -> int:
        """The stop signal that any process got, as last read, the same answer on every process; 0 for none."""
        if self.accelerator.num_processes > 1:
            self.stop.signal_number = self.last_reading.signal_number or self.stop.signal_number
            return self.last_reading.signal_number
        return self.stop.signal_number

    def _evaluate_and_save(self) -> None:
        """Score the model; save when it is the best so far, when a save is due, or when a signal ends the scoring."""
        progress = self.progress
        try:
            scores = self.evaluate(self.accelerator, self._check_between_batches)
        except _StopDuringEvaluation:
            self._save()
            self._raise_stopped(self.stop.signal_number)
        self.kept.keep(progress.step)
        deciding = next(iter(scores), None)  # none for a model of all rows: its last update is kept
        is_last = progress.step == self.cadence.num_updates
        loss, metrics = scores[deciding] if deciding else (math.nan, {})
        is_best = self.best_rule.update(progress, loss, metrics, is_last=is_last)
        epoch = self.cadence.epoch(progress.step)
        for split, (loss, metrics) in scores.items():
            self._note(EvalRecord(progress.step, epoch, split, loss, metrics, best=is_best and split == deciding))
        progress.evaluated_step = progress.step
        if is_best or self._save_is_due():
            self._save()
        if self.best_rule.gave_up(progress) and not is_last:
            logger.info(
                "Stopped early after update %d of %d: %s without a better %s (training.early_stopping)",
                progress.step,
                self.cadence.num_updates,
                counted(progress.evaluations_without_gain, "evaluation"),
                self.best_rule.metric,
            )

    def _save_is_due(self) -> bool:
        if self.cadence.due(self.progress.step, self.cadence.save_every) or self.best_rule.gave_up(self.progress):
            return True
        seconds, limit = time.monotonic() - self.saved_at, self.cadence.save_every_seconds
        if self.accelerator.num_processes > 1:  # by the main process's clock, as last read: all must save or none
            seconds = self.last_reading.seconds_since_save
        return limit is not None and seconds >= limit

    def _save(self) -> None:
        self._read(leave=0)  # no checkpoint of weights that a loss not yet read shows to be ruined
        self.progress.history_bytes = self.history.synced_size()
        self.checkpoints.save(self.accelerator, self.schedule, self.progress, add_files=self._add_files)
        self.saved_at = time.monotonic()
        self.last_reading = NOTHING_READ

    def _add_files(self, directory: Path) -> None:
        self.kept.save(directory)
        if self.add_files is not None:
            self.add_files(directory)

    def _check_between_batches(self) -> None:
        if self.stop.agreed(self.accelerator):
            raise _StopDuringEvaluation

    def _raise_stopped(self, signal_number: int) -> None:
        raise stop_error(
            signal_number,
            f"after update {self.progress.step} of {self.cadence.num_updates}, with a complete checkpoint",
        )

    def _finished(self) -> bool:
        return self.progress.step >= self.cadence.num_updates or self.best_rule.gave_up(self.progress)

    def _note(self, record: StepRecord | EvalRecord) -> None:
        self.history.append(record)
        self.listen(record)


def _nonfinite_message(record: StepRecord, rows: np.ndarray) -> str:
    shown = ", ".join(str(row) for row in rows[:20]) + (", ..." if len(rows) > 20 else "")
    return (
        f"Update {record.step}: the loss is {record.loss} and the gradient norm {record.grad_norm}. Training rows of "
        f"this update: {shown}. Lower training.learning_rate, use training.precision: fp32, or set "
        f"training.on_nonfinite: skip to leave such updates out."
    )
