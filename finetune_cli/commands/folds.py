"""Cross-validation: an ordinary run for each fold, and every row as the fold answered it that had not trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from finetune_cli.commands.members import Several, TrainOne, member_config, train_several
from finetune_cli.commands.seeds import summarise_splits
from finetune_cli.config.changes import changed
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.sections.data import FoldsConfig
from finetune_cli.evaluation.seed_summary import at_least_as_wide, summarise_folds, within_range
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.folds import FoldsReport
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import Listener, SeedSummary, TrainReport
from finetune_cli.report.write import write_report
from finetune_cli.runs.folds import final_config, pool_folds
from finetune_cli.runs.gates import check_config_gates
from finetune_cli.runs.rows import prepare_rows
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.session import note_scores
from finetune_cli.system.files import directory_bytes, write_json
from finetune_cli.system.group import wait_for_main_process
from finetune_cli.system.launching import is_main_process, join_group, launched_processes


def train_folds(
    config: RunConfig,
    train_one: TrainOne,
    *,
    final: bool = False,
    overwrite: bool = False,
    offline: bool = False,
    listen: Listener = lambda event: None,
) -> FoldsReport:
    """Train once for each fold of data.folds, into `fold-N` of the run directory, and score all rows together.

    eval/validation/ of the directory has every row as the first repeat's fold answered it that had not trained on it.
    The config's gates are about these scores. final: then train one model on all rows, into `final`, unless a gate
    fails; see `final_config`. The rest is that of `train_several`.
    """
    folds, count = _folds(config), num_folds(config)
    several: Several[int, TrainReport, FoldsReport] = Several(
        kind="fold",
        configs={fold: fold_config(config, fold) for fold in range(1, count + 1)},
        facts={"seed": config.seed, "folds": count},
        summarise=partial(_summarise, config, folds, offline=offline),
        note=partial(_note, config),
        gated=f"the scores over {count} folds",
    )
    report = train_several(config, several, train_one, overwrite=overwrite, listen=listen)
    if not final:
        return report
    report = replace(report, final=train_one(final_config(config, report)))
    if is_main_process():
        run = RunDir(config.output_dir)
        write_json(run.summary, report.to_json())
        run.write_record(replace(run.read_record(), size_bytes=directory_bytes(run.path)))
    return report


def num_folds(config: RunConfig) -> int:
    return _folds(config).n * _folds(config).repeats


def fold_config(config: RunConfig, fold: int) -> RunConfig:
    """The config of one of the folds: an ordinary one, which repeats that run."""
    return changed(member_config(config, "fold", fold), {"data.folds.fold": fold})


def _folds(config: RunConfig) -> FoldsConfig:
    assert config.data.folds is not None, "called for a config with folds"
    return config.data.folds


def _summarise(
    config: RunConfig, folds: FoldsConfig, runs: dict[int, TrainReport], failed: dict[int, str], *, offline: bool
) -> FoldsReport:
    level, path = config.evaluation.bootstrap.level, RunDir(config.output_dir).path
    pooled = None if failed else _pool(config, offline=offline)

    def summarise(split: str, name: str, values: Sequence[float]) -> SeedSummary:
        summary = summarise_folds(values, n=folds.n, level=level)
        if pooled is not None and split == pooled.split:
            summary = at_least_as_wide(summary, pooled.scores[name])
        return within_range(summary, name)

    splits = summarise_splits(runs, summarise)
    gates = check_config_gates(config, pooled) if pooled else []
    return FoldsReport(path, folds.n, folds.repeats, level, runs, failed, pooled, splits, gates)


def _pool(config: RunConfig, *, offline: bool) -> EvalReport:
    """The scores of all rows, with their files and pages, which the main process writes."""
    if is_main_process():
        whole = changed(config, {"data.checks.overlap": "ignore"})  # validation is train here
        prepared = prepare_rows(whole, offline=offline, quiet=True)
        write_report(RunDir(config.output_dir), config, prepared, pool_folds(config, prepared, offline=offline))
    if launched_processes() > 1:
        wait_for_main_process(join_group())
    return RunDir(config.output_dir).read_scores()


def _note(config: RunConfig, record: RunRecord, report: FoldsReport) -> None:
    if report.pooled:
        note_scores(record, config, [report.pooled])
