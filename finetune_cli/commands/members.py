"""Several ordinary runs in one directory, such as those of several seeds: its opening, its record, their training.

The runs are trained one after another in this process, so that torch is loaded once. What a run gives alone, it gives
here: everything is drawn anew from its seed. `train_several` is the course of them all; it is given what one kind of
them has of its own: the runs' configs, the summary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from finetune_cli.config.dump import to_yaml
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, ExitCode, FinetuneError, MembersFailedError, RunFailedError
from finetune_cli.records.evaluation import GateOutcome
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import Listener, MemberStarted, TrainReport
from finetune_cli.runs.gates import require_passed
from finetune_cli.runs.run_dir import MEMBERS, RunDir, member_number
from finetune_cli.runs.session import locked, model_name, recorded, run_differences
from finetune_cli.system.files import replacing, write_json
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
    those that failed, to the summary. note: adds it to run.json. gated: what the gates are about, in words.
    may_change: settings that leave runs that are there as they are. others: what makes them other runs besides, each in
    words.
    """

    kind: str
    configs: Mapping[N, RunConfig]
    facts: Mapping[str, Any]
    summarise: Callable[[dict[N, R], dict[N, str]], S]
    note: Callable[[RunRecord, S], None]
    gated: str
    may_change: Sequence[str] = ()
    others: Callable[[RunDir], Sequence[str]] = lambda run: ()


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
    fails leaves the others alone: MembersFailedError comes after the last one; see `train_members`. GateFailedError
    when the summary misses a gate of the config. Both errors hold the summary.
    """
    run, main, kind = RunDir(config.output_dir), is_main_process(), several.kind
    count = len(several.configs)
    with locked(run) if main else nullcontext():
        if main:
            others = [] if overwrite else several.others(run)
            open_members(
                run, config, [kind], overwrite=overwrite, may_change=several.may_change, more_differences=others
            )
        started = RunRecord(task=config.task, model=model_name(config), **several.facts)
        there = run.read_record()
        same = all(getattr(there, name) == value for name, value in several.facts.items())
        with members_record(run, started, same=same) if main else nullcontext(started) as record:
            runs, failed = train_members(kind, several.configs, train_one, listen)
            report = several.summarise(runs, failed)
            if main:
                write_json(run.summary, report.to_json())
                record.training_seconds = sum(one.seconds for one in runs.values())
                several.note(record, report)
            if failed:
                listing = "\n".join(f"  {kind} {member_number(key)}: {error}" for key, error in failed.items())
                message = f"{len(failed)} of {count} {MEMBERS[kind]} failed; the same command tries them again"
                raise MembersFailedError(f"{message}:\n{listing}", report)
            if not all(outcome.passed for outcome in report.gates):
                record.exit_code = ExitCode.GATE_FAILED
    require_passed(report.gates, several.gated, report)
    return report


def train_members(
    kind: str, configs: Mapping[N, RunConfig], train_one: Callable[[RunConfig], R], listen: Listener
) -> tuple[dict[N, R], dict[N, str]]:
    """Train each config; the reports of the runs that finished, and the errors of those that failed.

    A run that fails leaves the others alone (in a launched group not: its processes cannot agree that one of them
    failed). A stop, or a mistake that all share, ends the whole.
    """
    runs: dict[N, R] = {}
    failed: dict[N, str] = {}
    for number, (key, one) in enumerate(configs.items(), start=1):
        logger.info("%s %s (%d of %d): %s", kind.capitalize(), member_number(key), number, len(configs), one.output_dir)
        listen(MemberStarted(kind, key, number, len(configs)))
        try:
            runs[key] = train_one(one)
        except Exception as err:
            known = isinstance(err, FinetuneError)
            if (known and not isinstance(err, RunFailedError)) or launched_processes() > 1:
                raise
            failed[key] = str(err) if known else f"{type(err).__name__}: {err}"
            logger.error("%s %s failed: %s", kind.capitalize(), member_number(key), failed[key], exc_info=not known)
    return runs, failed


def member_config(config: RunConfig, kind: str, number: float) -> RunConfig:
    """The config of one of the runs: where it is, and without gates, which are about all of them together.

    Rows that `data.splits` draws from train stay those of the whole, whatever seed the run has.
    """
    drawn = any(isinstance(value, float) for value in (config.data.splits or {}).values())
    data = {"split_seed": config.seed} if drawn and config.data.split_seed is None else {}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "evaluation": config.evaluation.model_copy(update={"gates": ()}),
            "output_dir": str(RunDir(config.output_dir).member(kind, number).path),
        }
    )


def left_out(key: str, there: Sequence[float], now: Sequence[float], several: str) -> list[str]:
    """Which runs that are there the config no longer has; more of them than last time are welcome."""
    missing = [member_number(number) for number in there if number not in now]
    return [f"  {key}: {', '.join(missing)} left out; finished {several} are not trained again"] if missing else []


def open_members(
    run: RunDir,
    config: RunConfig,
    kinds: Sequence[str],
    *,
    overwrite: bool,
    may_change: Sequence[str] = (),
    more_differences: Sequence[str] = (),
) -> None:
    """Write the config of the whole; refuse a directory that holds something else.

    kinds: what the runs are called. may_change: settings that do not make the runs that are there others.
    more_differences: what does, each in words.
    """
    if overwrite:
        run.clear()
    elif run.holds_work():
        raise ConfigError(
            f"{run.path} holds a single run. Choose another directory with --output-dir, or delete that run and "
            "start anew with --overwrite."
        )
    elif run.members() and run.config.is_file():
        differences = [*run_differences(load_config(run.config), config, ignore=tuple(may_change)), *more_differences]
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
    with replacing(run.config) as file:
        file.write(to_yaml(config))


def members_record(run: RunDir, started: RunRecord, *, same: bool) -> AbstractContextManager[RunRecord]:
    """run.json and run.log of the whole. same: it had finished before with these runs; then both stay as they are."""
    return nullcontext(started) if same and run.read_record().is_finished else recorded(run, started)
