"""The same training with several seeds: one ordinary run for each, and a summary of their scores.

The seeds are trained one after another in this process, so that torch is loaded once; between them the memory of the
one before is given back. What the same seed gives alone, it gives here: everything is drawn anew from the seed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config, to_yaml
from finetune_cli.errors import ConfigError, ExitCode, FinetuneError, RunFailedError, SeedsFailedError
from finetune_cli.evaluation.comparison import summarise_seeds
from finetune_cli.records.evaluation import EvalReport, MetricValue
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import Listener, SeedScore, SeedsReport, SeedStarted, SplitSummary, TrainReport
from finetune_cli.runs.gates import check_gates, parse_gates, require_passed
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.session import locked, model_name, note_values, recorded, run_differences
from finetune_cli.system.files import replacing, write_json
from finetune_cli.system.launching import is_main_process, launched_processes

logger = logging.getLogger(__name__)


def train_seeds(
    config: RunConfig,
    train_one: Callable[[RunConfig], TrainReport],
    *,
    overwrite: bool = False,
    listen: Listener = lambda event: None,
) -> SeedsReport:
    """Train once with each of `training.seeds`, into `seed-N` of the run directory; write and return the summary.

    train_one: trains one config and returns its report, also when that run was finished before. A seed whose training
    fails leaves the others alone: SeedsFailedError comes after the last one (in a launched group at once, since its
    processes cannot agree that one of them failed). A stop, or a mistake that all seeds share, ends the command.
    GateFailedError when the means miss a gate of the config. Both errors hold the report.
    """
    run, main = RunDir(config.output_dir), is_main_process()
    with locked(run) if main else nullcontext():
        if main:
            _open(run, config, overwrite=overwrite)
        started = RunRecord(seeds=list(config.training.seeds or ()), task=config.task, model=model_name(config))
        with _session(run, started) if main else nullcontext(started) as record:
            runs, failed = _train_all(config, train_one, listen)
            report = summarise(config, runs, failed)
            if main:
                write_json(run.summary, report.to_json())
                _note(record, config, report)
            if failed:
                listing = "\n".join(f"  seed {seed}: {error}" for seed, error in failed.items())
                raise SeedsFailedError(
                    f"{len(failed)} of {len(report.seeds)} seeds failed; the same command tries them again:\n{listing}",
                    report,
                )
            if not all(outcome.passed for outcome in report.gates):
                record.exit_code = ExitCode.GATE_FAILED
    require_passed(report.gates, f"the means over {len(report.seeds)} seeds", report)
    return report


def seed_config(config: RunConfig, seed: int) -> RunConfig:
    """The config of one of the seeds: an ordinary one, which repeats that run.

    Rows that `data.splits` draws from train are the same for all seeds. Gates are about the means.
    """
    drawn = any(isinstance(value, float) for value in (config.data.splits or {}).values())
    data = {"split_seed": config.seed} if drawn and config.data.split_seed is None else {}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "training": config.training.model_copy(update={"seeds": None}),
            "evaluation": config.evaluation.model_copy(update={"gates": ()}),
            "output_dir": str(RunDir(config.output_dir).seed_run(seed).path),
            "seed": seed,
        }
    )


def summarise(config: RunConfig, runs: dict[int, TrainReport], failed: dict[int, str]) -> SeedsReport:
    """Mean, standard deviation and interval of each score over the seeds that finished, and the gates on them."""
    level = config.evaluation.bootstrap.level
    names = [report.split for report in next(iter(runs.values())).evaluations] if runs else []
    splits = [
        _split_summary({seed: _scores_of(run, name) for seed, run in runs.items()}, level=level) for name in names
    ]
    gates = []
    if splits and not failed:
        validation = next(split for split in splits if split.split == "validation")
        means = _means(validation)
        gates = check_gates(parse_gates(config.evaluation.gates), means, means["loss"].value)
    seeds = list(config.training.seeds or ())
    return SeedsReport(RunDir(config.output_dir).path, seeds, level, runs, failed, splits, gates)


def _note(record: RunRecord, config: RunConfig, report: SeedsReport) -> None:
    record.training_seconds = sum(run.seconds for run in report.runs.values())
    for split in report.splits:
        if split.split == "validation":
            note_values(record, config, _means(split), rows=split.n)


def _means(split: SplitSummary) -> dict[str, MetricValue]:
    return {name: MetricValue(one.mean, _or_none(one.low), _or_none(one.high)) for name, one in split.metrics.items()}


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _scores_of(run: TrainReport, split: str) -> EvalReport:
    return next(report for report in run.evaluations if report.split == split)


def _split_summary(reports: dict[int, EvalReport], *, level: float) -> SplitSummary:
    first = next(iter(reports.values()))
    values = {name: {seed: one.metrics[name].value for seed, one in reports.items()} for name in first.metrics}
    values["loss"] = {seed: one.loss for seed, one in reports.items()}
    collapsed = {seed: one.collapsed for seed, one in reports.items() if one.collapsed is not None}
    return SplitSummary(first.split, first.n, {name: _score(one, level) for name, one in values.items()}, collapsed)


def _score(values: dict[int, float], level: float) -> SeedScore:
    found = summarise_seeds(list(values.values()), level=level)
    return SeedScore(found.mean, found.sd, found.low, found.high, values)


def _session(run: RunDir, started: RunRecord) -> AbstractContextManager[RunRecord]:
    """run.json and run.log of the whole; those of a run that has finished all these seeds before stay as they are."""
    before = run.read_record()
    finished = before.is_finished and before.seeds == started.seeds
    return nullcontext(started) if finished else recorded(run, started)


def _open(run: RunDir, config: RunConfig, *, overwrite: bool) -> None:
    """Refuse a directory that holds something else; more seeds than last time are welcome."""
    if overwrite:
        run.clear()
    elif run.holds_work():
        raise ConfigError(
            f"{run.path} holds a run with one seed. Choose another directory with --output-dir, or delete that run and "
            "start anew with --overwrite."
        )
    elif run.seed_runs() and run.config.is_file():
        _require_same_runs(run, config)
    with replacing(run.config) as file:
        file.write(to_yaml(config))


def _require_same_runs(run: RunDir, config: RunConfig) -> None:
    there = load_config(run.config)
    differences = run_differences(there, config, ignore=("training.seeds",))
    left_out = [seed for seed in there.training.seeds or () if seed not in (config.training.seeds or ())]
    if left_out:
        differences.append(f"  training.seeds: {_listed(left_out)} left out; finished seeds are not trained again")
    if differences:
        raise ConfigError(
            f"{run.path} holds seeds of another config:\n"
            + "\n".join(differences)
            + "\nChoose another directory with --output-dir, or delete those runs and start anew with --overwrite."
        )


def _train_all(
    config: RunConfig, train_one: Callable[[RunConfig], TrainReport], listen: Listener
) -> tuple[dict[int, TrainReport], dict[int, str]]:
    """The reports of the seeds that finished, and the errors of those that failed."""
    runs: dict[int, TrainReport] = {}
    failed: dict[int, str] = {}
    seeds = config.training.seeds or ()
    for number, seed in enumerate(seeds, start=1):
        one = seed_config(config, seed)
        logger.info("Seed %d (%d of %d): %s", seed, number, len(seeds), one.output_dir)
        listen(SeedStarted(seed, number, len(seeds)))
        try:
            runs[seed] = train_one(one)
        except Exception as err:
            known = isinstance(err, FinetuneError)
            if (known and not isinstance(err, RunFailedError)) or launched_processes() > 1:
                raise
            failed[seed] = str(err) if known else f"{type(err).__name__}: {err}"
            logger.error("Seed %d failed: %s", seed, failed[seed], exc_info=not known)
    return runs, failed


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
