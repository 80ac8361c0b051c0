"""The same training with several seeds: one ordinary run for each, and a summary of their scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from finetune_cli.commands.members import Several, TrainOne, member_config, train_several
from finetune_cli.config.changes import changed
from finetune_cli.config.fields import RunConfig
from finetune_cli.evaluation.seed_summary import row_variances, summarise_seeds, within_range
from finetune_cli.records.evaluation import Corrected, EvalReport, MetricValue, of_split
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import (
    BestSeed,
    Listener,
    SeedScore,
    SeedsReport,
    SeedSummary,
    SplitSummary,
    TrainReport,
)
from finetune_cli.records.verdicts import GateOutcome
from finetune_cli.runs.answers import read_answers
from finetune_cli.runs.candidates import corrected_best
from finetune_cli.runs.gates import check_gates, parse_gates
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.session import note_values
from finetune_cli.system.launching import join_group, launched_processes
from finetune_cli.tasks import KIND_SPECS, METRICS

Summarise = Callable[[str, str, Sequence[float]], SeedSummary]  # of a split, the name of a score and its values


def train_seeds(
    config: RunConfig,
    train_one: TrainOne,
    *,
    overwrite: bool = False,
    listen: Listener = lambda event: None,
) -> SeedsReport:
    """Train once with each of `training.seeds`, into `seed-N` of the run directory; see `train_several`."""
    seeds = list(config.training.seeds or ())
    several: Several[int, TrainReport, SeedsReport] = Several(
        kind="seed",
        configs={seed: seed_config(config, seed) for seed in seeds},
        facts={"seeds": seeds},
        summarise=partial(_summarise, config),
        note=partial(_note, config),
        gated=f"the means over {len(seeds)} seeds",
        listed_in="training.seeds",
    )
    return train_several(config, several, train_one, overwrite=overwrite, listen=listen)


def seed_config(config: RunConfig, seed: int) -> RunConfig:
    """The config of one of the seeds: an ordinary one, which repeats that run."""
    return changed(member_config(config, "seed", seed), {"training.seeds": None, "seed": seed})


def _summarise(config: RunConfig, runs: dict[int, TrainReport], failed: dict[int, str]) -> SeedsReport:
    """Mean, standard deviation and interval of each score over the seeds that finished, and the gates on them."""
    level = config.evaluation.bootstrap.level
    variances = {split: _row_variances(config, runs, split) for split in _splits(runs)}

    def over_seeds(split: str, name: str, values: Sequence[float]) -> SeedSummary:
        return within_range(summarise_seeds(values, level=level, row_variance=variances[split][name]), name)

    splits = summarise_splits(runs, over_seeds)
    gates = check_means(config, splits, runs) if splits and not failed else []
    seeds = list(config.training.seeds or ())
    best = _best_seed(config, runs) if len(runs) > 1 else None
    return SeedsReport(RunDir(config.output_dir).path, seeds, level, runs, failed, splits, gates, best)


def check_means(config: RunConfig, splits: Sequence[SplitSummary], runs: dict[int, TrainReport]) -> list[GateOutcome]:
    """The config's gates, held against the means over seeds on the split "validation"."""
    means = of_split(splits).means
    corrected = _corrected_means(means, [of_split(run.evaluations) for run in runs.values()])
    return check_gates(parse_gates(config.evaluation.gates), means, means["loss"].value, corrected)


def _corrected_means(means: dict[str, MetricValue], reports: Sequence[EvalReport]) -> dict[str, Corrected]:
    """The mean over seeds of the scores as each seed corrected its own, with the interval of the mean moved along."""
    corrected: dict[str, Corrected] = {}
    for name in set.intersection(*(set(report.corrected) for report in reports)):
        of_seeds = [report.corrected[name] for report in reports]
        mean = means[name]
        value = sum(score.value for score in of_seeds) / len(of_seeds)
        low, high = (None if end is None else end + value - mean.value for end in (mean.low, mean.high))
        corrected[name] = Corrected(value, low, high, of_seeds[0].candidates)
    return corrected


def _best_seed(config: RunConfig, runs: dict[int, TrainReport]) -> BestSeed | None:
    """The seed that is best on validation by the main metric, and its score without the price of that choice."""
    metric = config.evaluation.main_metric
    if metric not in METRICS:
        return None
    scores = {seed: of_split(run.evaluations).scores[metric] for seed, run in runs.items()}
    scores = {seed: score for seed, score in scores.items() if math.isfinite(score.value)}
    if not scores:
        return None
    sign = 1 if METRICS[metric].greater_is_better else -1
    best = max(scores, key=lambda seed: sign * scores[seed].value)
    runs_of = {seed: RunDir(run.run_dir) for seed, run in runs.items()}
    candidates, corrected = corrected_best(scores[best], metric, runs_of, best, seed=config.seed)
    return BestSeed(best, metric, scores[best], candidates, corrected)


def _note(config: RunConfig, record: RunRecord, report: SeedsReport) -> None:
    if report.splits:
        split = of_split(report.splits)
        names = [report.runs[seed].run_dir.name for seed in split.collapsed]
        note_values(record, config, split.means, rows=split.n, collapsed=names)


def _row_variances(config: RunConfig, runs: dict[int, TrainReport], split: str) -> dict[str, float]:
    """The variance of each score's mean over seeds that comes from the choice of rows, from the runs' predictions."""
    if launched_processes() > 1:
        join_group().wait_for_everyone()  # the main process writes them
    scored = [read_answers(RunDir(run.run_dir).predictions(split)).rows for run in runs.values()]
    of_loss = KIND_SPECS[scored[0].kind].metric_of_loss
    names = [name for name in config.evaluation.metrics if name != "loss"]
    variances = row_variances(list(dict.fromkeys([*names, of_loss])), scored, config.resampling.to_compare)
    return {**variances, "loss": variances[of_loss]}


def summarise_splits(runs: Mapping[int, TrainReport], summarise: Summarise) -> list[SplitSummary]:
    """Every score of each split, the loss too, over several runs."""
    return [_over_runs(split, runs, summarise) for split in _splits(runs)]


def _splits(runs: Mapping[int, TrainReport]) -> list[str]:
    return [report.split for report in next(iter(runs.values())).evaluations] if runs else []


def _over_runs(split: str, runs: Mapping[int, TrainReport], summarise: Summarise) -> SplitSummary:
    reports = {key: of_split(run.evaluations, split) for key, run in runs.items()}
    first, summaries = next(iter(reports.values())), {}
    for name in first.scores:
        values = {key: report.scores[name].value for key, report in reports.items()}
        summaries[name] = SeedScore(**vars(summarise(split, name, list(values.values()))), values=values)
    collapsed = {key: report.collapsed for key, report in reports.items() if report.collapsed is not None}
    return SplitSummary(split, first.n, summaries, collapsed)
