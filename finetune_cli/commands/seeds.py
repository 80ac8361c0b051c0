"""The same training with several seeds: one ordinary run for each, and a summary of their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finetune_cli.commands.members import Several, TrainOne, left_out, member_config, train_several
from finetune_cli.commands.summary import means, scores_of, summarise_splits
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.config.sections.evaluation import BootstrapConfig
from finetune_cli.evaluation.seed_summary import SeedSummary, summarise_seeds
from finetune_cli.records.evaluation import Corrected, EvalReport, GateOutcome, MetricValue
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import BestSeed, Listener, SeedsReport, SplitSummary, TrainReport
from finetune_cli.runs.answers import read_answers
from finetune_cli.runs.candidates import corrected_best
from finetune_cli.runs.gates import check_gates, parse_gates
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.scored_runs import variances_over_rows
from finetune_cli.runs.session import note_values
from finetune_cli.system.launching import join_group, launched_processes
from finetune_cli.tasks import KIND_SPECS, METRICS


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
        summarise=lambda runs, failed: summarise(config, runs, failed),
        note=lambda record, report: _note(record, config, report),
        gated=f"the means over {len(seeds)} seeds",
        may_change=("training.seeds",),
        others=lambda run: left_out("training.seeds", _seeds_there(run), seeds, "seeds"),
    )
    return train_several(config, several, train_one, overwrite=overwrite, listen=listen)


def seed_config(config: RunConfig, seed: int) -> RunConfig:
    """The config of one of the seeds: an ordinary one, which repeats that run."""
    training = config.training.model_copy(update={"seeds": None})
    return member_config(config, "seed", seed).model_copy(update={"training": training, "seed": seed})


def summarise(config: RunConfig, runs: dict[int, TrainReport], failed: dict[int, str]) -> SeedsReport:
    """Mean, standard deviation and interval of each score over the seeds that finished, and the gates on them."""
    level = config.evaluation.bootstrap.level
    variances = {split: _row_variances(config, runs, split) for split in _splits_of(runs)}

    def over_seeds(split: str, name: str, values: Sequence[float]) -> SeedSummary:
        return summarise_seeds(values, level=level, row_variance=variances[split][name])

    splits = summarise_splits(runs, over_seeds)
    gates = check_means(config, splits, runs) if splits and not failed else []
    seeds = list(config.training.seeds or ())
    best = _best_seed(config, runs) if len(runs) > 1 else None
    return SeedsReport(RunDir(config.output_dir).path, seeds, level, runs, failed, splits, gates, best)


def check_means(config: RunConfig, splits: Sequence[SplitSummary], runs: dict[int, TrainReport]) -> list[GateOutcome]:
    """The config's gates, held against the means over seeds on the split "validation"."""
    of_means = means(next(split for split in splits if split.split == "validation"))
    corrected = _corrected_means(of_means, [scores_of(run, "validation") for run in runs.values()])
    return check_gates(parse_gates(config.evaluation.gates), of_means, of_means["loss"].value, corrected)


def _corrected_means(means: dict[str, MetricValue], reports: Sequence[EvalReport]) -> dict[str, Corrected]:
    """The mean over seeds of the scores as each seed corrected its own, with the interval of the mean moved along."""
    found: dict[str, Corrected] = {}
    for name in set.intersection(*(set(report.corrected) for report in reports)):
        of_seeds = [report.corrected[name] for report in reports]
        mean = means[name]
        value = sum(one.value for one in of_seeds) / len(of_seeds)
        low, high = (None if end is None else end + value - mean.value for end in (mean.low, mean.high))
        found[name] = Corrected(value, low, high, of_seeds[0].candidates)
    return found


def _best_seed(config: RunConfig, runs: dict[int, TrainReport]) -> BestSeed | None:
    """The seed that is best on validation by the main metric, and its score without the price of that choice."""
    metric = config.evaluation.main_metric
    if metric not in METRICS:
        return None
    reports = {seed: scores_of(run, "validation") for seed, run in runs.items()}
    scores = {seed: _decisive(metric, report) for seed, report in reports.items()}
    scores = {seed: score for seed, score in scores.items() if math.isfinite(score.value)}
    if not scores:
        return None
    sign = 1 if METRICS[metric].greater_is_better else -1
    best = max(scores, key=lambda seed: sign * scores[seed].value)
    runs_of = {seed: RunDir(run.run_dir) for seed, run in runs.items()}
    candidates, corrected = corrected_best(scores[best], metric, runs_of, best, seed=config.seed)
    return BestSeed(best, metric, scores[best], candidates, corrected)


def _decisive(metric: str, report: EvalReport) -> MetricValue:
    return MetricValue(report.loss) if metric == "loss" else report.metrics[metric]


def _note(record: RunRecord, config: RunConfig, report: SeedsReport) -> None:
    for split in report.splits:
        if split.split == "validation":
            names = [RunDir(report.runs[seed].run_dir).path.name for seed in split.collapsed]
            note_values(record, config, means(split), rows=split.n, collapsed=names)


def _seeds_there(run: RunDir) -> Sequence[int]:
    return load_config(run.config).training.seeds or () if run.seed_runs() and run.config.is_file() else ()


def _row_variances(config: RunConfig, runs: dict[int, TrainReport], split: str) -> dict[str, float]:
    """The variance of each score's mean over seeds that comes from the choice of rows, from the runs' predictions."""
    if launched_processes() > 1:
        join_group().wait_for_everyone()  # the main process writes them
    answers = [read_answers(RunDir(run.run_dir).evaluation(split) / "predictions.jsonl") for run in runs.values()]
    of_loss = KIND_SPECS[answers[0].kind].metric_of_loss
    names = [name for name in config.evaluation.metrics if name != "loss"]
    samples = config.evaluation.bootstrap.samples or BootstrapConfig().samples
    found = variances_over_rows(answers, list(dict.fromkeys([*names, of_loss])), samples=samples, seed=config.seed)
    return {**found, "loss": found[of_loss]}


def _splits_of(runs: dict[int, TrainReport]) -> list[str]:
    return [report.split for report in next(iter(runs.values())).evaluations] if runs else []
