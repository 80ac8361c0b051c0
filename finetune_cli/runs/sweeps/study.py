"""The search of a sweep: an Optuna study in a journal file, which processes and machines share and kills do not harm.

A trial is written with all its settings in one line of the journal, so that it is there whole or not at all. Each trial
has a sampler of its own, seeded by its number, so that the settings of a trial depend on the trials before it alone,
and not on how often the sweep was started.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from finetune_cli.config.fields import SweepConfig
from finetune_cli.config.search import is_whole
from finetune_cli.errors import ConfigError, MissingError, first_line
from finetune_cli.runs.sweeps.claims import held

NAME = "sweep"
DEFAULTS = "defaults"  # marks the trial that has the config's own values
ERROR, PRUNED, SECONDS = "error", "pruned", "seconds"  # what is noted of a trial beside Optuna's own
FINGERPRINT = "fingerprint"


class _FileLock(BaseJournalFileLock):
    """A lock that the system releases when its holder dies, on NFS too.

    Optuna's own ones, a link and a file opened for the first time, stay there until somebody loses patience.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = ExitStack()

    def acquire(self) -> bool:
        self._held.enter_context(held(self._path))
        return True

    def release(self) -> None:
        self._held.close()


class Search:
    """The trials of one sweep. Values are those of the config: what Optuna cannot keep goes in as JSON."""

    def __init__(self, folder: Path, settings: SweepConfig, *, maximise: bool, fingerprint: str) -> None:
        """Open the journal in `folder`, or begin one.

        fingerprint: of what makes two sweeps the same. Raises ConfigError for the journal of another one, MissingError
        for one that is damaged.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.settings, self.maximise = settings, maximise
        self.journal = folder / "journal.log"
        self.distributions = {key: distribution(key, choice) for key, choice in settings.parameters.items()}
        with held(folder / "journal.lock"):
            _drop_half_line(self.journal)
        try:
            storage = JournalStorage(JournalFileBackend(str(self.journal), lock_obj=_FileLock(folder / "journal.lock")))
            direction = StudyDirection.MAXIMIZE if maximise else StudyDirection.MINIMIZE
            self.study: Study = optuna.create_study(
                storage=storage, study_name=NAME, direction=direction, pruner=_pruner(settings), load_if_exists=True
            )
            there = self.study.user_attrs.get(FINGERPRINT)
        except (ValueError, KeyError, TypeError, AssertionError) as err:
            raise MissingError(
                f"{self.journal} is damaged ({first_line(err)}). Restore it, or start anew with --overwrite."
            ) from err
        if there is None:
            self.study.set_user_attr(FINGERPRINT, fingerprint)
        elif there != fingerprint:
            raise ConfigError(
                f"{self.journal} is the journal of another sweep. Choose another directory with --output-dir, or start "
                "anew with --overwrite."
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.trials

    @property
    def complete(self) -> list[FrozenTrial]:
        """The trials with a score, the best first, the earliest of equals before the others."""
        sign = -1 if self.maximise else 1
        scored = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return sorted(scored, key=lambda trial: (sign * (trial.value or 0.0), trial.number))

    @property
    def best(self) -> FrozenTrial | None:
        return next(iter(self.complete), None)

    def values(self, trial: FrozenTrial) -> dict[str, Any]:
        """The settings of a trial, as the config takes them."""
        return {key: decode(self.settings.parameters[key], value) for key, value in trial.params.items()}

    def add(self, own: Mapping[str, Any]) -> FrozenTrial:
        """Begin the next trial. own: the config's own values, which the first trial has where they can be had.

        Call it with the sweep's lock held, so that no two processes begin the same.
        """
        number = len(self.trials)
        sampler = _sampler(self.settings, self.distributions, number)
        memory = optuna.create_study(study_name=NAME, direction=self.study.direction, sampler=sampler)
        memory.add_trials(self.trials)
        first = self._own_params(own) if number == 0 else None
        if first is not None:
            memory.enqueue_trial(first)
        memory.ask(self.distributions)
        asked = memory.trials[-1]
        if first is not None:
            asked.set_user_attr(DEFAULTS, True)
        self.study.add_trial(asked)
        return self.trials[-1]

    def _own_params(self, own: Mapping[str, Any]) -> dict[str, Any] | None:
        """The config's own values as a trial; None where one of them is not among what is tried."""
        if self.settings.sampler == "grid":
            return None  # the grid deals out its own
        params = {key: encode(own[key]) for key in self.distributions}
        for key, among in self.distributions.items():
            try:
                fits = among._contains(among.to_internal_repr(params[key]))
            except (ValueError, TypeError):
                fits = False
            if not fits:
                return None
        return params

    def report(self, number: int, place: int, value: float) -> bool:
        """Note the score of a trial's evaluation number `place`, from 1; whether the trial is to end.

        One that was noted before a stop is not noted again; the last of these may still have to be judged.
        """
        trial, before = self._open(number), self.trials[number].intermediate_values
        if place not in before:
            trial.report(value, place)
        elif place < max(before):
            return False
        return self.settings.pruner != "none" and trial.should_prune()

    def note(self, number: int, name: str, value: Any) -> None:
        self._open(number).set_user_attr(name, value)

    def finish(self, number: int, value: float | None, *, pruned: bool = False) -> None:
        """Close a trial: with its score, as pruned, or as failed. One that is closed already stays as it is."""
        state = TrialState.PRUNED if pruned else TrialState.FAIL if value is None else TrialState.COMPLETE
        self.study.tell(number, None if state == TrialState.FAIL else value, state=state, skip_if_finished=True)

    def _open(self, number: int) -> Trial:
        return Trial(self.study, self.trials[number]._trial_id)

    def grid_size(self) -> int:
        return math.prod(map(len, _grid(self.distributions).values()))


def distribution(key: str, choice: Any) -> BaseDistribution:
    """What is tried for a setting, in Optuna's terms."""
    if not isinstance(choice, dict):
        return CategoricalDistribution([encode(value) for value in choice])
    low, high, log, step = choice["low"], choice["high"], choice.get("log", False), choice.get("step")
    if is_whole(key, choice):
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(float(low), float(high), log=log, step=step)


def encode(value: Any) -> Any:
    """A value as Optuna keeps it: what is no single value as JSON."""
    return json.dumps(value, sort_keys=True, default=list) if isinstance(value, list | tuple | dict) else value


def decode(choice: Any, value: Any) -> Any:
    if isinstance(choice, dict):
        return value
    return next(offered for offered in choice if encode(offered) == value and type(encode(offered)) is type(value))


def _grid(distributions: Mapping[str, BaseDistribution]) -> dict[str, list[Any]]:
    return {key: list(_points(one)) for key, one in distributions.items()}


def _points(among: BaseDistribution) -> Iterator[Any]:
    if isinstance(among, CategoricalDistribution):
        yield from among.choices
    elif isinstance(among, IntDistribution | FloatDistribution):
        count = int((among.high - among.low) / (among.step or 1) + 1e-9) + 1
        for place in range(count):
            value = among.low + place * (among.step or 1)
            yield value if isinstance(among, IntDistribution) else round(value, 12)


def _sampler(
    settings: SweepConfig, distributions: Mapping[str, BaseDistribution], number: int
) -> optuna.samplers.BaseSampler:
    seed = (settings.seed * 1_000_003 + number) % 2**32
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if settings.sampler == "grid":
        return optuna.samplers.GridSampler(_grid(distributions), seed=settings.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)  # running trials are not tried again


def _pruner(settings: SweepConfig) -> optuna.pruners.BasePruner:
    if settings.pruner == "median":
        return optuna.pruners.MedianPruner()
    if settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()


def _drop_half_line(journal: Path) -> None:
    """A power cut may leave a line without its end; what comes after it would be unreadable."""
    with suppress(FileNotFoundError), journal.open("r+b") as file:
        text = file.read()
        if text and not text.endswith(b"\n"):
            file.truncate(text.rfind(b"\n") + 1)
