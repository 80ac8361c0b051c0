"""Several ordinary runs in one directory, such as those of several seeds: its opening, its record, their training.

The runs are trained one after another in this process, so that torch is loaded once. What a run gives alone, it gives
here: everything is drawn anew from its seed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config, to_yaml
from finetune_cli.errors import ConfigError, ExitCode, FinetuneError, MembersFailedError, RunFailedError
from finetune_cli.records.evaluation import GateOutcome
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import Listener, MemberStarted, TrainReport
from finetune_cli.runs.gates import require_passed
from finetune_cli.runs.run_dir import MEMBERS, RunDir, member_number
from finetune_cli.runs.session import locked, recorded, run_differences
from finetune_cli.system.files import replacing, write_json
from finetune_cli.system.launching import is_main_process, launched_processes

logger = logging.getLogger(__name__)

TrainOne = Callable[[RunConfig], TrainReport]
Number = TypeVar("Number", int, float)
One = TypeVar("One")


class Summary(Protocol):
    """What is said of all runs together."""

    @property
    def gates(self) -> list[GateOutcome]: ...
    def to_json(self) -> dict[str, Any]: ...


AnySummary = TypeVar("AnySummary", bound=Summary)


def train_together(
    run: RunDir,
    config: RunConfig,
    kind: str,
    configs: Mapping[Number, RunConfig],
    train_one: Callable[[RunConfig], One],
    *,
    started: RunRecord,
    same: Callable[[RunRecord], bool],
    summarise: Callable[[dict[Number, One], dict[Number, str]], AnySummary],
    note: Callable[[RunRecord, AnySummary], None],
    gated: str,
    overwrite: bool,
    listen: Listener,
    may_change: Sequence[str] = (),
    left_out: Callable[[], list[str]] = list,
) -> AnySummary:
    """Train each config into a run of its own inside `run`; write and return the summary of all.

    started: the record of the whole; same: whether the one that is there is about the same runs. summarise: of the runs
    that finished and the errors of the others. note: adds what was learned to the record, in the main process.
    gated: what the gates are about, in words. may_change, left_out: see `open_members`. Raises MembersFailedError after
    the last run when one failed, see `train_members`; GateFailedError. Both hold the summary.
    """
    main = is_main_process()
    with locked(run) if main else nullcontext():
        if main:
            differences = [] if overwrite else left_out()
            open_members(run, config, [kind], overwrite=overwrite, may_change=may_change, more_differences=differences)
        with members_record(run, started, same=same(run.read_record())) if main else nullcontext(started) as record:
            runs, failed = train_members(kind, configs, train_one, listen)
            summary = summarise(runs, failed)
            if main:
                write_json(run.summary, summary.to_json())
                note(record, summary)
            if failed:
                listing = "\n".join(f"  {kind} {member_number(number)}: {error}" for number, error in failed.items())
                several = f"{len(failed)} of {len(configs)} {MEMBERS[kind]}"
                raise MembersFailedError(f"{several} failed; the same command tries them again:\n{listing}", summary)
            if not all(outcome.passed for outcome in summary.gates):
                record.exit_code = ExitCode.GATE_FAILED
    require_passed(summary.gates, gated, summary)
    return summary


def train_members(
    kind: str, configs: Mapping[Number, RunConfig], train_one: Callable[[RunConfig], One], listen: Listener
) -> tuple[dict[Number, One], dict[Number, str]]:
    """Train each config; the reports of the runs that finished, and the errors of those that failed.

    A run that fails leaves the others alone (in a launched group not: its processes cannot agree that one of them
    failed). A stop, or a mistake that all share, ends the whole.
    """
    runs: dict[Number, One] = {}
    failed: dict[Number, str] = {}
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
