"""Would more data help? An ordinary run, or one for each seed, with each of several shares of train."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from finetune_cli.commands.members import Several, member_config, train_several
from finetune_cli.commands.seeds import check_means
from finetune_cli.config.changes import changed
from finetune_cli.config.fields import RunConfig
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.records.evaluation import of_split
from finetune_cli.records.learning_curve import CurvePoint, CurveReport
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import Listener, SeedsReport, TrainReport
from finetune_cli.records.verdicts import GateOutcome
from finetune_cli.report.learning_curve import write_curve
from finetune_cli.runs.gates import check_config_gates
from finetune_cli.runs.learning_curve import forecast
from finetune_cli.runs.rows import prepare_rows
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.session import note_values
from finetune_cli.system.files import write_json
from finetune_cli.system.launching import launched_processes

TrainShare = Callable[[RunConfig], TrainReport | SeedsReport]


def train_shares(
    config: RunConfig,
    train_share: TrainShare,
    *,
    overwrite: bool = False,
    offline: bool = False,
    listen: Listener = lambda event: None,
) -> CurveReport:
    """Train once with each share of `training.learning_curve`, into `share-S` of the run directory.

    train_share: trains one config, of several seeds too, and returns its report, also when it was finished before. The
    gates of the config are held against the largest share. Raises MembersFailedError and GateFailedError, which hold
    the report, when everything is written.
    """
    if launched_processes() > 1:
        raise ConfigError("A learning curve trains in one process. Start it without a launcher.")
    shares, seeds = list(config.training.learning_curve or ()), config.training.seeds
    configs = {share: share_config(config, share) for share in shares}
    rows = _rows(configs, offline=offline)
    several: Several[float, TrainReport | SeedsReport, CurveReport] = Several(
        kind="share",
        configs=configs,
        facts={"shares": shares, **({"seeds": list(seeds)} if seeds else {"seed": config.seed})},
        summarise=partial(_summarise, config, rows),
        note=partial(_note, config),
        gated=f"the largest share of train, {shares[-1]:g}",
        listed_in="training.learning_curve",
        may_change=("training.seeds",),
    )
    return train_several(config, several, train_share, overwrite=overwrite, listen=listen)


def share_config(config: RunConfig, share: float) -> RunConfig:
    """The config of one of the shares: an ordinary one, which repeats that run."""
    return changed(member_config(config, "share", share), {"training.learning_curve": None, "data.share": share})


def _summarise(
    config: RunConfig,
    rows: dict[float, int],
    runs: dict[float, TrainReport | SeedsReport],
    failed: dict[float, str],
) -> CurveReport:
    """The points of the curve, what they foretell, and the gates on the largest share."""
    metric = config.evaluation.main_metric
    points = [_point(config, share, rows[share], one) for share, one in runs.items()]
    found, why = forecast(
        points,
        {share: [RunDir(each.run_dir) for each in _each(config, one).values()] for share, one in runs.items()},
        metric,
        kind=config.spec.kind,
        resampling=config.resampling.to_compare,
    )
    gates = _gates(config, runs[max(rows)]) if runs and not failed else []
    n = of_split(next(iter(_each(config, next(iter(runs.values()))).values())).evaluations).n if runs else 0
    path = RunDir(config.output_dir).path
    return CurveReport(path, list(rows), metric, config.resampling.level, n, runs, failed, points, found, why, gates)


def _rows(configs: dict[float, RunConfig], *, offline: bool) -> dict[float, int]:
    """How many rows each share has. Raises DataError, before anything is trained, for shares that are too small."""
    rows: dict[float, int] = {}
    for share, one in configs.items():
        rows[share] = prepare_rows(one, offline=offline, quiet=bool(rows)).splits["train"].num_rows
    for smaller, share in pairwise(rows):
        if rows[smaller] == rows[share]:
            raise DataError(
                f"training.learning_curve: the shares {smaller:g} and {share:g} are the same {rows[share]} rows of "
                "train. Take one of them out."
            )
    return rows


def _each(config: RunConfig, report: TrainReport | SeedsReport) -> dict[int, TrainReport]:
    """The runs of one share by seed."""
    return report.runs if isinstance(report, SeedsReport) else {config.seed: report}


def _point(config: RunConfig, share: float, rows: int, report: TrainReport | SeedsReport) -> CurvePoint:
    of_runs = {seed: of_split(run.evaluations) for seed, run in _each(config, report).items()}
    metrics = of_split(report.splits).means if isinstance(report, SeedsReport) else next(iter(of_runs.values())).scores
    values = {seed: scored.scores[config.evaluation.main_metric].value for seed, scored in of_runs.items()}
    collapsed = {seed: scored.collapsed for seed, scored in of_runs.items() if scored.collapsed is not None}
    return CurvePoint(share, rows, metrics, values, collapsed)


def _collapsed_runs(config: RunConfig, point: CurvePoint) -> str | list[str] | None:
    """As run.json has it: the class of the one run, or the names of the seeds' runs."""
    if config.training.seeds:
        return [f"seed-{seed}" for seed in point.collapsed]
    return next(iter(point.collapsed.values()), None)


def _gates(config: RunConfig, largest: TrainReport | SeedsReport) -> list[GateOutcome]:
    if isinstance(largest, SeedsReport):
        return check_means(config, largest.splits, largest.runs)
    return check_config_gates(config, of_split(largest.evaluations))


def _note(config: RunConfig, record: RunRecord, report: CurveReport) -> None:
    """The picture and its numbers, and the scores of the largest share in run.json."""
    run = RunDir(report.run_dir)
    write_json(run.metrics / "learning_curve.json", report.curve())
    write_curve(run, report)
    if report.points:
        largest = report.points[-1]
        note_values(record, config, largest.metrics, rows=report.n, collapsed=_collapsed_runs(config, largest))
