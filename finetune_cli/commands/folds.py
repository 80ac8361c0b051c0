"""Cross-validation: an ordinary run for each fold, and every row as the fold answered it that had not trained on it."""

from __future__ import annotations

from finetune_cli.commands.members import TrainOne, member_config, train_together
from finetune_cli.commands.summary import summarise_splits
from finetune_cli.config.fields import FoldsConfig, RunConfig
from finetune_cli.evaluation.resampled_t import summarise_folds
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.folds import FoldsReport
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import Listener, TrainReport
from finetune_cli.report.write import write_report
from finetune_cli.runs.gates import check_report, parse_gates
from finetune_cli.runs.pooled import pool_folds
from finetune_cli.runs.rows import prepare_rows
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.session import model_name, note_scores
from finetune_cli.system.launching import is_main_process


def train_folds(
    config: RunConfig,
    train_one: TrainOne,
    *,
    overwrite: bool = False,
    offline: bool = False,
    listen: Listener = lambda event: None,
) -> FoldsReport:
    """Train once for each fold of data.folds, into `fold-N` of the run directory, and score all rows together.

    eval/validation/ of the directory has every row as the first repeat's fold answered it that had not trained on it.
    train_one: trains one config and returns its report, also when that run was finished before. A fold whose training
    fails leaves the others alone: MembersFailedError comes after the last one; see `train_members`. GateFailedError
    when the scores of all rows miss a gate of the config. Both errors hold the report.
    """
    folds, run = _folds(config), RunDir(config.output_dir)
    count = folds.n * folds.repeats

    def summarise(runs: dict[int, TrainReport], failed: dict[int, str]) -> FoldsReport:
        pooled = _pool(config, offline=offline) if not failed else None
        return _report(config, folds, runs, failed, pooled)

    def note(record: RunRecord, report: FoldsReport) -> None:
        record.training_seconds = report.seconds
        if report.pooled:
            note_scores(record, config, [report.pooled])

    return train_together(
        run,
        config,
        "fold",
        {fold: fold_config(config, fold) for fold in range(1, count + 1)},
        train_one,
        started=RunRecord(seed=config.seed, folds=count, task=config.task, model=model_name(config)),
        same=lambda record: record.folds == count,
        summarise=summarise,
        note=note,
        gated=f"the scores over {count} folds",
        overwrite=overwrite,
        listen=listen,
    )


def fold_config(config: RunConfig, fold: int) -> RunConfig:
    """The config of one of the folds: an ordinary one, which repeats that run."""
    one = member_config(config, "fold", fold)
    folds = _folds(config).model_copy(update={"fold": fold})
    return one.model_copy(update={"data": one.data.model_copy(update={"folds": folds})})


def _folds(config: RunConfig) -> FoldsConfig:
    assert config.data.folds is not None, "called for a config with folds"
    return config.data.folds


def _pool(config: RunConfig, *, offline: bool) -> EvalReport | None:
    """The scores of all rows, with their files and pages, in the main process alone."""
    if not is_main_process():
        return None
    checks = config.data.checks.model_copy(update={"overlap": "ignore"})  # validation is train here
    whole = config.model_copy(update={"data": config.data.model_copy(update={"checks": checks})})
    prepared = prepare_rows(whole, offline=offline, quiet=True)
    report = pool_folds(config, prepared, offline=offline)
    write_report(RunDir(config.output_dir), config, prepared, report)
    return report


def _report(
    config: RunConfig,
    folds: FoldsConfig,
    runs: dict[int, TrainReport],
    failed: dict[int, str],
    pooled: EvalReport | None,
) -> FoldsReport:
    level = config.evaluation.bootstrap.level
    splits = summarise_splits(runs, lambda split, name, values: summarise_folds(values, n=folds.n, level=level))
    gates = check_report(parse_gates(config.evaluation.gates), pooled) if pooled else []
    path = RunDir(config.output_dir).path
    return FoldsReport(path, folds.n, folds.repeats, level, runs, failed, pooled, splits, gates)
