"""The same training with several seeds: one ordinary run for each, and a summary of their scores."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

from finetune_cli.commands.members import TrainOne, member_config, members_record, open_members, train_members
from finetune_cli.commands.summary import means, summarise_splits
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.errors import ExitCode, MembersFailedError
from finetune_cli.evaluation.comparison import summarise_seeds
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import Listener, SeedsReport, TrainReport
from finetune_cli.runs.gates import check_gates, parse_gates, require_passed
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.session import locked, model_name, note_values
from finetune_cli.system.files import write_json
from finetune_cli.system.launching import is_main_process


def train_seeds(
    config: RunConfig,
    train_one: TrainOne,
    *,
    overwrite: bool = False,
    listen: Listener = lambda event: None,
) -> SeedsReport:
    """Train once with each of `training.seeds`, into `seed-N` of the run directory; write and return the summary.

    train_one: trains one config and returns its report, also when that run was finished before. A seed whose training
    fails leaves the others alone: MembersFailedError comes after the last one; see `train_members`.
    GateFailedError when the means miss a gate of the config. Both errors hold the report.
    """
    run, main = RunDir(config.output_dir), is_main_process()
    seeds = list(config.training.seeds or ())
    with locked(run) if main else nullcontext():
        if main:
            open_members(
                run,
                config,
                ["seed"],
                overwrite=overwrite,
                may_change=("training.seeds",),
                more_differences=[] if overwrite else _left_out(run, config),
            )
        started = RunRecord(seeds=seeds, task=config.task, model=model_name(config))
        same = run.read_record().seeds == seeds
        with members_record(run, started, same=same) if main else nullcontext(started) as record:
            runs, failed = train_members("seed", {seed: seed_config(config, seed) for seed in seeds}, train_one, listen)
            report = summarise(config, runs, failed)
            if main:
                write_json(run.summary, report.to_json())
                _note(record, config, report)
            if failed:
                listing = "\n".join(f"  seed {seed}: {error}" for seed, error in failed.items())
                raise MembersFailedError(
                    f"{len(failed)} of {len(report.seeds)} seeds failed; the same command tries them again:\n{listing}",
                    report,
                )
            if not all(outcome.passed for outcome in report.gates):
                record.exit_code = ExitCode.GATE_FAILED
    require_passed(report.gates, f"the means over {len(report.seeds)} seeds", report)
    return report


def seed_config(config: RunConfig, seed: int) -> RunConfig:
    """The config of one of the seeds: an ordinary one, which repeats that run."""
    training = config.training.model_copy(update={"seeds": None})
    return member_config(config, "seed", seed).model_copy(update={"training": training, "seed": seed})


def summarise(config: RunConfig, runs: dict[int, TrainReport], failed: dict[int, str]) -> SeedsReport:
    """Mean, standard deviation and interval of each score over the seeds that finished, and the gates on them."""
    level = config.evaluation.bootstrap.level
    splits = summarise_splits(runs, partial(summarise_seeds, level=level))
    gates = []
    if splits and not failed:
        of_means = means(next(split for split in splits if split.split == "validation"))
        gates = check_gates(parse_gates(config.evaluation.gates), of_means, of_means["loss"].value)
    seeds = list(config.training.seeds or ())
    return SeedsReport(RunDir(config.output_dir).path, seeds, level, runs, failed, splits, gates)


def _note(record: RunRecord, config: RunConfig, report: SeedsReport) -> None:
    record.training_seconds = sum(run.seconds for run in report.runs.values())
    for split in report.splits:
        if split.split == "validation":
            note_values(record, config, means(split), rows=split.n)


def _left_out(run: RunDir, config: RunConfig) -> list[str]:
    """Which seeds of the runs that are there the config no longer has; more of them than last time are welcome."""
    there = load_config(run.config).training.seeds or () if run.seed_runs() and run.config.is_file() else ()
    left_out = [str(seed) for seed in there if seed not in (config.training.seeds or ())]
    if not left_out:
        return []
    return [f"  training.seeds: {', '.join(left_out)} left out; finished seeds are not trained again"]
