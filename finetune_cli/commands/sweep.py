"""finetune sweep: settings are searched, each trial an ordinary run; the best is kept, with what choosing it costs."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from accelerate.utils.memory import clear_device_cache
from optuna.trial import FrozenTrial

from finetune_cli.commands.members import member_config, open_members
from finetune_cli.commands.prepare import prepare
from finetune_cli.commands.sweep_result import close_sweep, require_scores
from finetune_cli.commands.train import train
from finetune_cli.config.changes import changed
from finetune_cli.config.dump import leaves, to_yaml
from finetune_cli.config.fields import RunConfig, SweepConfig
from finetune_cli.config.load import load_config
from finetune_cli.config.search import seconds
from finetune_cli.errors import ConfigError, ExitCode, MembersFailedError
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.run import RunRecord
from finetune_cli.records.sweep import SweepReport
from finetune_cli.records.training import Listener, MemberStarted
from finetune_cli.runs.gates import require_passed
from finetune_cli.runs.requirements import require_search
from finetune_cli.runs.run_dir import WORKING, RunDir
from finetune_cli.runs.session import model_name, note_values, recorded
from finetune_cli.runs.sweeps.claims import Claim, held, require_nobody_works, try_claim, unfinished
from finetune_cli.runs.sweeps.study import SECONDS, Search
from finetune_cli.runs.sweeps.trials import Sweep, Train
from finetune_cli.system import locking
from finetune_cli.system.files import directory_bytes, disk_errors_explained, remove_directory, require_writable
from finetune_cli.tasks import METRICS

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
MAY_CHANGE = ("trials", "time", "seeds", "finalists")  # of the section sweep: more of the same search


def sweep(
    config: RunConfig,
    *,
    overwrite: bool = False,
    offline: bool = False,
    listen: Listener = lambda event: None,
    train_one: Train | None = None,
) -> SweepReport:
    """Search the settings of the config's section `sweep`, going on where earlier processes stopped.

    Several processes, on several machines, may call it for one directory at once: each takes the next trial, and a
    trial whose process has died is gone on with by whoever comes next. train_one: trains one config, in place of
    `train`. Raises MembersFailedError when no trial could be finished, GateFailedError when the best one misses a gate
    of the config; both hold the report.
    """
    settings = require_search(config)
    run = RunDir(config.output_dir)
    require_writable(run.path)
    run.sweep.mkdir(exist_ok=True)
    with disk_errors_explained(run.path), held(run.sweep / "sweep.lock"):
        _open(run, config, settings, overwrite=overwrite)
        search = _search(run, config, settings)
        require_scores(run, search)
    prepare(config, offline=offline)  # mistakes in the data are those of all trials
    started = RunRecord(seed=config.seed, trials=settings.trials or 0, task=config.task, model=model_name(config))
    train_one = train_one or partial(_train, offline=offline)
    current = Sweep(config, search, partial(_trial_config, run, search), train_one, listen)
    with locking.shared(run.sweep / WORKING), recorded(run, started) as record:
        _work(current)
        with held(run.sweep / "closing.lock"):
            report = close_sweep(current)
        record.trials = len(report.trials)
        record.training_seconds = sum(trial.seconds for trial in report.trials)
        if report.best is None:
            raise MembersFailedError(f"None of the {len(report.trials)} trials could be finished.", report)
        best = report.trial(report.best)
        score = {report.metric: best.score or MetricValue(float("nan"))}
        note_values(record, config, score, rows=best.n or 0, collapsed=best.collapsed)
        if not all(outcome.passed for outcome in report.gates):
            record.exit_code = ExitCode.GATE_FAILED
    require_passed(report.gates, f"trial {report.best}, the best", report)
    return report


def _open(run: RunDir, config: RunConfig, settings: SweepConfig, *, overwrite: bool) -> None:
    if overwrite:
        require_nobody_works(run.path, run.sweep)
    differences = partial(_other_search, settings)
    open_members(run, config, ["trial", "finalist"], overwrite=overwrite, more_differences=differences)
    run.sweep.mkdir(exist_ok=True)


def _other_search(settings: SweepConfig, there: RunConfig) -> list[str]:
    if there.sweep is None:
        return []
    old, new = dict(leaves(there.sweep)), dict(leaves(settings))
    keys = [key for key in dict.fromkeys([*old, *new]) if key not in MAY_CHANGE and old.get(key) != new.get(key)]
    return [f"  sweep.{key}: {old.get(key)!r} there, {new.get(key)!r} now" for key in keys]


def _search(run: RunDir, config: RunConfig, settings: SweepConfig) -> Search:
    metric = config.evaluation.main_metric
    if metric not in METRICS:
        raise ConfigError(
            f"{metric}: whether more is better is not known of this metric, so there is no best trial. Set "
            "evaluation.metric_for_best to a metric of the package, or to loss."
        )
    maximise = METRICS[metric].greater_is_better
    alike = changed(
        config,
        {
            "output_dir": ".",
            "hub": None,
            "tracking": (),
            "evaluation.gates": (),
            **{f"sweep.{name}": None for name in MAY_CHANGE},
            "sweep.finalists": 1,
        },
    )
    fingerprint = hashlib.sha256(to_yaml(alike).encode()).hexdigest()
    return Search(run.sweep, settings, maximise=maximise, fingerprint=fingerprint)


def _trial_config(run: RunDir, search: Search, trial: FrozenTrial) -> RunConfig:
    """The config of a trial: an ordinary one, which repeats that run. Raises ConfigError for settings that clash."""
    values = [f"{key}={json.dumps(value)}" for key, value in search.values(trial).items()]
    return member_config(load_config(run.config, [*values, "sweep=null", "hub=null"]), "trial", trial.number)


def _train(config: RunConfig, listen: Listener, *, offline: bool) -> Any:
    try:
        return train(config, offline=offline, listen=listen, data_known=True)
    finally:
        clear_device_cache(garbage_collection=True)


def _work(sweep: Sweep) -> None:
    """Train trials until none is left, waiting for those that other processes work at."""
    own = dict(leaves(sweep.config))
    said_waiting = False
    while True:
        with held(sweep.run.sweep / "sweep.lock"):
            claim = _next(sweep, own)
        if claim is not None:
            said_waiting = False
            try:
                _train_claimed(sweep, claim.trial)
            finally:
                claim.release()
        elif unfinished(sweep.search.trials):
            if not said_waiting:
                logger.info("Waiting for trials that other processes work at")
            said_waiting = True
            time.sleep(WAIT_SECONDS)
        else:
            return


def _next(sweep: Sweep, own: Mapping[str, Any]) -> Claim | None:
    """A trial whose process is gone, else a new one if there is to be one. own: the config's own values."""
    folder, search, settings = sweep.run.sweep, sweep.search, sweep.search.settings
    trials = search.trials
    for trial in unfinished(trials):
        if claim := try_claim(folder, trial):
            return claim
    limit = settings.trials
    if settings.sampler == "grid":
        limit = min(search.grid_size(), limit or search.grid_size())
    spent = sum(trial.user_attrs.get(SECONDS, 0.0) for trial in trials)
    budget = seconds(settings.time) if settings.time else None
    if (limit is not None and len(trials) >= limit) or (budget is not None and spent >= budget):
        return None
    return try_claim(folder, search.add(own))


def _train_claimed(sweep: Sweep, trial: FrozenTrial) -> None:
    count = sweep.search.settings.trials
    shown = ", ".join(f"{key}={value}" for key, value in sweep.search.values(trial).items())
    logger.info("Trial %d%s: %s", trial.number, f" of {count}" if count else "", shown)
    sweep.listen(MemberStarted("trial", trial.number, trial.number + 1, count or 0))
    sweep.train_trial(trial)
    with held(sweep.run.sweep / "sweep.lock"):
        _make_room(sweep)


def _make_room(sweep: Sweep) -> None:
    """Remove the checkpoints and models of closed trials, but for the best; their scores and predictions stay."""
    best = sweep.search.best
    for trial in sweep.search.trials:
        if not trial.state.is_finished() or (best is not None and trial.number == best.number):
            continue
        member = sweep.member(trial.number)
        folders = [folder for each in (member, *member.members()) for folder in (each.checkpoints, each.model)]
        if not any(folder.is_dir() for folder in folders):
            continue
        with suppress(OSError):
            for folder in folders:
                remove_directory(folder)
            for each in (*member.members(), member):  # what run.json says of the size was before
                each.write_record(replace(each.read_record(), size_bytes=directory_bytes(each.path)))
