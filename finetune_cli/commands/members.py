"""Several ordinary runs in one directory, such as those of several seeds: its opening, its record, their training.

The runs are trained one after another in this process, so that torch is loaded once. What a run gives alone, it gives
here: everything is drawn anew from its seed. `train_several` is the course of them all; it is given what one kind of
them has of its own: the runs' configs, the summary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from finetune_cli.config.changes import changed
from finetune_cli.config.dump import leaves, to_yaml
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, ExitCode, FinetuneError, MembersFailedError, RunFailedError, in_words
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import Listener, MemberStarted, TrainReport
from finetune_cli.records.verdicts import GateOutcome
from finetune_cli.runs.gates import require_passed
from finetune_cli.runs.run_dir import MEMBERS, RunDir, member_number
from finetune_cli.runs.session import locked, model_name, recorded, run_differences
from finetune_cli.system.files import write_json, write_text
from finetune_cli.system.launching import is_main_process, launched_processes

logger = logging.getLogger(__name__)

TrainOne = Callable[[RunConfig], TrainReport]


class Summary(Protocol):
    """What the reports about several runs have in common."""

    @property
    def gates(self) -> list[GateOutcome]: ...

    def to_json(self) -> dict[str, Any]: ...


class Trained(Protocol):
    """The report of one of the runs, which may be several themselves."""

    @property
    def seconds(self) -> float: ...


S = TypeVar("S", bound=Summary)
R = TypeVar("R", bound=Trained)
N = TypeVar("N", int, float)


@dataclass(frozen=True)
class Several(Generic[N, R, S]):
    """One kind of several runs.

    kind: what each is called, such as "seed". configs: of each, by its number. facts: of run.json, what makes these
    runs others than those of another time. summarise: from the reports of the runs that finished, and the errors of
    those that failed, to the summary. note: adds it to run.json. gated: what the gates are about, in words. listed_in:
    the setting that lists the runs, if one does; more of them than last time are welcome, fewer are not. may_change:
    other settings that leave runs that are there as they are.
    """

    kind: str
    configs: Mapping[N, RunConfig]
    facts: Mapping[str, Any]
    summarise: Callable[[dict[N, R], dict[N, str]], S]
    note: Callable[[RunRecord, S], None]
    gated: str
    listed_in: str | None = None
    may_change: Sequence[str] = ()

    def left_out(self, there: RunConfig) -> list[str]:
        """The runs of the config that is there which are not among these, in words."""
        before = dict(leaves(there)).get(self.listed_in or "") or ()
        missing = ", ".join(member_number(number) for number in before if number not in self.configs)
        several = MEMBERS[self.kind]
        return [f"  {self.listed_in}: {missing} left out; finished {several} are not trained again"] if missing else []


def train_several(
    config: RunConfig,
    several: Several[N, R, S],
    train_one: Callable[[RunConfig], R],
    *,
    overwrite: bool,
    listen: Listener,
) -> S:
    """Train each of several runs inside the run directory; write and return their summary.

    train_one: trains one config and returns its report, also when that run was finished before. A run whose training
    fails leaves the others alone: MembersFailedError comes after the last one. GateFailedError when the summary misses
    a gate of the config. Both errors hold the summary.
    """
    run, main, kind = RunDir(config.output_dir), is_main_process(), several.kind
    with locked(run) if main else nullcontext():
        if main:
            may_change = [*several.may_change, several.listed_in] if several.listed_in else several.may_change
            open_members(
                run, config, [kind], overwrite=overwrite, may_change=may_change, more_differences=several.left_out
            )
        started = RunRecord(task=config.task, model=model_name(config), **several.facts)
        there = run.read_record()
        same = all(getattr(there, name) == value for name, value in several.facts.items())
        stays = not main or (there.is_finished and same)  # run.json and run.log of runs that had finished stay
        with nullcontext(started) if stays else recorded(run, started) as record:
            runs, failed = _train_each(kind, several.configs, train_one, listen)
            report = several.summarise(runs, failed)
            if main:
                write_json(run.summary, report.to_json())
                record.training_seconds = sum(trained.seconds for trained in runs.values())
                several.note(record, report)
            if failed:
                listing = "\n".join(f"  {kind} {member_number(key)}: {error}" for key, error in failed.items())
                message = (
                    f"{len(failed)} of {len(several.configs)} {MEMBERS[kind]} failed; the same command tries them again"
                )
                raise MembersFailedError(f"{message}:\n{listing}", report)
            if not all(outcome.passed for outcome in report.gates):
                record.exit_code = ExitCode.GATE_FAILED
    require_passed(report.gates, several.gated, report)
    return report


def _train_each(
    kind: str, configs: Mapping[N, RunConfig], train_one: Callable[[RunConfig], R], listen: Listener
) -> tuple[dict[N, R], dict[N, str]]:
    """Train each config; the reports of the runs that finished, and the errors of those that failed.

    A run that fails leaves the others alone (in a launched group not: its processes cannot agree that one of them
    failed). A stop, or a mistake that all share, ends the whole.
    """
    runs: dict[N, R] = {}
    failed: dict[N, str] = {}
    for number, (key, config) in enumerate(configs.items(), start=1):
        logger.info(
            "%s %s (%d of %d): %s", kind.capitalize(), member_number(key), number, len(configs), config.output_dir
        )
        listen(MemberStarted(kind, key, number, len(configs)))
        try:
            runs[key] = train_one(config)
        except Exception as err:
            known = isinstance(err, FinetuneError)
            if (known and not isinstance(err, RunFailedError)) or launched_processes() > 1:
                raise
            failed[key] = in_words(err)
            logger.error("%s %s failed: %s", kind.capitalize(), member_number(key), failed[key], exc_info=not known)
    return runs, failed


def member_config(config: RunConfig, kind: str, number: float) -> RunConfig:
    """The config of one of the runs: where it is, and without gates, which are about all of them together.

    Rows that `data.splits` draws from train stay those of the whole, whatever seed the run has.
    """
    values: dict[str, Any] = {
        "evaluation.gates": (),
        "output_dir": str(RunDir(config.output_dir).member(kind, number).path),
    }
    if config.data.draws_from_train and config.data.split_seed is None:
        values["data.split_seed"] = config.seed
    return changed(config, values)


def open_members(
    run: RunDir,
    config: RunConfig,
    kinds: Sequence[str],
    *,
    overwrite: bool,
    may_change: Sequence[str] = (),
    more_differences: Callable[[RunConfig], Sequence[str]],
) -> None:
    """Write the config of the whole; refuse a directory that holds something else.

    kinds: what the runs are called. may_change: settings that do not make the runs that are there others.
    more_differences: from the config that is there, what does besides, each in words.
    """
    if overwrite:
        run.clear()
    elif run.holds_work():
        raise ConfigError(
            f"{run.path} holds a single run. Choose another directory with --output-dir, or delete that run and "
            "start anew with --overwrite."
        )
    elif run.members() and run.config.is_file():
        there = load_config(run.config)
        differences = [*run_differences(there, config, ignore=tuple(may_change)), *more_differences(there)]
        differences += [
            f"  it holds {other.path.name}, which is no {kinds[0]}"
            for other in run.members()
            if other.path.name.partition("-")[0] not in kinds
        ]
        if differences:
            raise ConfigError(
                f"{run.path} holds {kinds[0]}s of another config:\n"
                + "\n".join(differences)
                + "\nChoose another directory with --output-dir, or delete those runs and start anew with --overwrite."
            )
    write_text(run.config, to_yaml(config))
