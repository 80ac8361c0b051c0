"""One trial of a sweep: the search's settings in, an ordinary run trained, its score or its failure noted."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from finetune_cli.config.fields import RunConfig
from finetune_cli.errors import FinetuneError, InterruptedRunError, NotFinishedError, PrunedError, in_words
from finetune_cli.records.evaluation import of_split
from finetune_cli.records.folds import FoldsReport
from finetune_cli.records.training import EvalRecord, Listener, SeedsReport, TrainingEvent, TrainReport
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.sweeps.study import ERROR, PRUNED, SECONDS, Search
from finetune_cli.system.files import DISK_FULL, NOT_WRITABLE

logger = logging.getLogger(__name__)

Train = Callable[[RunConfig, Listener], TrainReport | FoldsReport | SeedsReport]


@dataclass(frozen=True)
class Sweep:
    """A sweep under way. config: of the whole. config_of: of a trial; it raises ConfigError for settings that clash.
    train: one config, also when its run was finished before."""

    config: RunConfig
    search: Search
    config_of: Callable[[FrozenTrial], RunConfig]
    train: Train
    listen: Listener

    @property
    def run(self) -> RunDir:
        return RunDir(self.config.output_dir)

    @property
    def metric(self) -> str:
        """The score that decides."""
        return self.config.evaluation.main_metric

    def member(self, trial: int) -> RunDir:
        return self.run.member("trial", trial)

    def train_trial(self, trial: FrozenTrial) -> None:
        """Train a trial to its end, going on where it was stopped, and close it.

        What is wrong with the trial alone fails it, and is noted. Raises what ends the whole sweep: a stop signal, a
        full disk, a directory that cannot be written.
        """
        number = trial.number
        try:
            config = self.config_of(trial)
            report = self.train(config, self._listener(number, config))
            self._close(number, report)
        except PrunedError:
            self._note_seconds(trial)
            self.search.finish(number, None, pruned=True)
        except (NotFinishedError, InterruptedRunError):
            raise
        except Exception as err:
            known = isinstance(err, FinetuneError)
            if _is_of_the_disk(err):
                raise
            message = in_words(err)
            logger.error("Trial %d failed: %s", number, message, exc_info=not known)
            self.search.note(number, ERROR, message)
            self._note_seconds(trial)
            self.search.finish(number, None)

    def _note_seconds(self, trial: FrozenTrial) -> None:
        """How long a trial has trained that did not come to its end; it counts against sweep.time as the others do."""
        with suppress(FinetuneError):  # settings that clash have trained nothing
            run = RunDir(self.config_of(trial).output_dir)
            trained = 0.0
            for member in (run, *run.members()):
                updates = [line for line in member.read_history() if line["type"] == "train"]
                trained += updates[-1]["seconds"] if updates else 0.0
            self.search.note(trial.number, SECONDS, trained)

    def _close(self, number: int, report: TrainReport | FoldsReport | SeedsReport) -> None:
        assert not isinstance(report, SeedsReport), "a trial is trained with one seed"
        value = of_split(report.evaluations).scores[self.metric].value
        self.search.note(number, SECONDS, report.seconds)
        if not math.isfinite(value):
            self.search.note(number, ERROR, f"{self.metric} is not defined on the validation rows")
        self.search.finish(number, value if math.isfinite(value) else None)

    def _listener(self, number: int, config: RunConfig) -> Listener:
        """Tells the search each evaluation, those before a stop too, and ends the training when it says so."""
        if config.data.folds is not None:
            return self.listen
        steps: set[int] = set()

        def evaluated(step: int, value: float) -> None:
            steps.add(step)
            place = sum(other <= step for other in steps)
            if math.isfinite(value) and self.search.report(number, place, value):
                self.search.note(number, PRUNED, step)
                raise PrunedError(f"Pruned after update {step}: other trials did better by then.")

        if pruned := self.search.trials[number].user_attrs.get(PRUNED):
            raise PrunedError(f"Pruned after update {pruned}.")
        for line in RunDir(config.output_dir).read_history():
            if line["type"] == "eval" and line["split"] == "validation":
                value = line.get(self.metric)
                evaluated(line["step"], math.nan if value is None else value)

        def listen(event: TrainingEvent) -> None:
            self.listen(event)
            if isinstance(event, EvalRecord) and event.split == "validation":
                evaluated(event.step, event.loss if self.metric == "loss" else event.metrics[self.metric])

        return listen


def _is_of_the_disk(err: BaseException) -> bool:
    cause = err if isinstance(err, OSError) else err.__cause__
    return isinstance(cause, OSError) and cause.errno in DISK_FULL | NOT_WRITABLE
