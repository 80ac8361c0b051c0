"""finetune compare: which run is better, and is the difference real. Reads files alone; no torch."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.config.fields import BootstrapConfig, RunConfig
from finetune_cli.config.load import config_diff, to_yaml
from finetune_cli.errors import ConfigError, GateFailedError, did_you_mean
from finetune_cli.evaluation.comparison import (
    Difference,
    compare_predictions,
    compare_seeds,
    describe,
    mcnemar,
    summarise_seeds,
)
from finetune_cli.evaluation.intervals import scored_metrics
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.metrics import metric_parts
from finetune_cli.evaluation.power import holm, planned, smallest_difference
from finetune_cli.records.comparison import ComparedSide, CompareReport, Comparison, ConfigDifference
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.runs.scored_runs import ScoredRun, metric_values, pair_rows, read_scored_runs, variances_over_rows
from finetune_cli.tasks import KIND_SPECS, METRICS, TASKS, Kind, metric_problem, metrics_for

logger = logging.getLogger(__name__)

SCORED_WITH_ALL = "Score the runs again with: finetune evaluate RUN --probabilities all"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Side = list[ScoredRun]  # one run, or the runs of one setting with different seeds


@dataclass(frozen=True)
class Scoring:
    """How all sides are scored, and the size, level and seed of the bootstrap that compares them."""

    metrics: tuple[str, ...]
    kind: Kind
    samples: int
    level: float
    seed: int


def compare(
    runs: Sequence[str],
    *,
    split: str = "validation",
    metrics: Sequence[str] = (),
    fail_if_worse: Sequence[str] = (),
    all_pairs: bool = False,
    plan: float | None = None,
) -> CompareReport:
    """Compare each run with the first, or each with each (`all_pairs`), on the rows that both were scored on.

    runs: run directories or predictions files. metrics: by default those of the runs' configs. A directory of several
    seeds is one side, and its seeds are repeated measures. So is a group of single runs that differ in nothing but seed
    (and output_dir), when all runs fall into such groups of two or more; otherwise each run is a side.

    More than two sides are a family: of each metric, p values are adjusted for the number of comparisons. plan: a
    difference, in the metric's own unit, of which the report says how many rows or seeds it needs. Raises
    GateFailedError, with the report as its `report`, when a side is significantly worse than the first on a metric of
    `fail_if_worse`, or that metric is not defined.
    """
    if plan is not None and not (math.isfinite(plan) and plan > 0):
        raise ConfigError(f"--plan {plan:g}: expected a difference above 0, such as 0.01.")
    if len(runs) < 2:
        raise ConfigError(f"compare needs two or more runs; found {len(runs)}. Type: finetune compare RUN RUN...")
    groups = [read_scored_runs(run, split) for run in runs]
    first = groups[0][0]
    groups = [[run if run is first else pair_rows(first, run) for run in group] for group in groups]
    scored = [run for group in groups for run in group]
    scoring = _scoring(scored, metrics, fail_if_worse)
    sides = _sides(scored) if len(scored) == len(runs) else _seed_sides(groups)
    shown = [_side(LETTERS[n] if n < len(LETTERS) else f"R{n + 1}", side, scoring) for n, side in enumerate(sides)]
    names = [side.name for side in shown]
    pairs = list(combinations(range(len(sides)), 2)) if all_pairs else [(0, n) for n in range(1, len(sides))]
    report = CompareReport(
        split=split if any(run.config for run in scored) else None,
        n=len(first.ids),
        level=scoring.level,
        samples=scoring.samples,
        seeds=len(sides[0]) > 1,
        sides=shown,
        config_differences=_config_differences(sides, names),
        comparisons=_comparisons(sides, names, pairs, scoring, plan),
        family=len(pairs),
    )
    _require_none_worse(report, fail_if_worse, first=names[0])
    return report


def _scoring(runs: Sequence[ScoredRun], metrics: Sequence[str], fail_if_worse: Sequence[str]) -> Scoring:
    """The user's metrics, else those of the runs' configs, else the usual ones; the bootstrap of the first config."""
    kind, classes = runs[0].kind, runs[0].classes
    configs = [run.config for run in runs if run.config is not None]
    own = [name for config in configs for name in config.evaluation.metrics] or TASKS[kind].metrics
    names = dict.fromkeys([*(metrics or (name for name in own if name != "loss")), *fail_if_worse])
    num_classes = None if classes is None else len(classes)
    allowed = [name for name in metrics_for(kind, num_classes) if name != "loss"]
    for name in names:
        problem = metric_problem(name, kind, num_classes)
        if name == "loss":
            problem = f"loss is not kept by row; use {KIND_SPECS[kind].metric_of_loss}"
        if problem:
            option = "--fail-if-worse" if name in fail_if_worse else "--metric" if name in metrics else "metric"
            choice = f"Allowed: {', '.join(allowed)}{did_you_mean(name, allowed, before='. ')}"
            raise ConfigError(f"{option} {name}: {problem}. {choice}")
    if any(run.is_partial for run in runs) and (lacking := [name for name in names if _needs_all(name, kind)]):
        if asked := [name for name in lacking if name in (*metrics, *fail_if_worse)]:
            raise ConfigError(f"{asked[0]} needs the probability of every class. {SCORED_WITH_ALL}")
        left_out = ", ".join(lacking)
        logger.warning("Left out, since it needs the probability of every class: %s. %s", left_out, SCORED_WITH_ALL)
        names = {name: None for name in names if name not in lacking}
    bootstrap = configs[0].evaluation.bootstrap if configs else BootstrapConfig()
    samples = bootstrap.samples or BootstrapConfig().samples  # switched off for single scores, but needed here
    return Scoring(tuple(names), kind, samples, bootstrap.level, configs[0].seed if configs else 0)


def _needs_all(name: str, kind: Kind) -> bool:
    """Whether a metric looks at more probabilities than those of the likeliest class and of the label."""
    return name in KINDS[kind].score_metrics and (KIND_SPECS[kind].several_labels or name in ("auroc", "brier"))


def _sides(runs: Sequence[ScoredRun]) -> list[Side]:
    """Runs of one setting together, when there are two settings or more with two seeds or more each."""
    alone = [[run] for run in runs]
    settings: dict[str, Side] = {}
    for run in runs:
        if run.config is None:
            return alone
        setting = to_yaml(run.config.model_copy(update={"seed": 0, "output_dir": "", "tracking": (), "hub": None}))
        settings.setdefault(setting, []).append(run)
    sides = list(settings.values())
    repeated = len(sides) > 1 and all(len(side) > 1 and len(set(_seeds(side))) == len(side) for side in sides)
    return sides if repeated else alone


def _seed_sides(groups: list[Side]) -> list[Side]:
    """The sides as they were named; two or more seeds each."""
    for group in groups:
        if len(group) < 2:
            raise ConfigError(
                f"{group[0].name} is one run, and another side has several seeds. Compare it with one of those, such "
                f"as {next(group[0].name for group in groups if len(group) > 1)}, or train it with several seeds, too."
            )
    return groups


def _seeds(side: Side) -> list[int]:
    return [run.config.seed for run in side if run.config is not None]


def _side(name: str, side: Side, scoring: Scoring) -> ComparedSide:
    """A run's scores with their intervals; of several seeds the means, with Student's t intervals."""
    if len(side) == 1:
        return ComparedSide(
            name, [side[0].name], _seeds(side), _with_intervals(side[0], scoring), collapsed=_collapsed(side)
        )
    values = [metric_values(run, scoring.metrics) for run in side]
    of_rows = variances_over_rows(side, scoring.metrics, samples=scoring.samples, seed=scoring.seed)
    summaries = {
        metric: summarise_seeds(
            [of_run[metric] for of_run in values], level=scoring.level, row_variance=of_rows[metric]
        )
        for metric in scoring.metrics
    }
    return ComparedSide(
        name,
        [run.name for run in side],
        _seeds(side),
        {metric: _metric_value(one.mean, one.low, one.high) for metric, one in summaries.items()},
        {metric: one.sd for metric, one in summaries.items()},
        _collapsed(side),
    )


def _collapsed(side: Side) -> dict[str, str]:
    return {run.name: run.collapsed for run in side if run.collapsed is not None}


def _with_intervals(run: ScoredRun, scoring: Scoring) -> dict[str, MetricValue]:
    """The intervals are those that `finetune evaluate` printed: drawn with the run's own seed."""
    found: dict[str, MetricValue] = {}
    for names, of_probabilities in metric_parts(scoring.metrics):
        found |= scored_metrics(
            names,
            labels=run.labels,
            scores=run.scores(of_probabilities=of_probabilities),
            kind=scoring.kind,
            samples=scoring.samples,
            level=scoring.level,
            seed=run.config.seed if run.config is not None else 0,
        )
    return {name: found[name] for name in scoring.metrics}


def _metric_value(value: float, low: float, high: float) -> MetricValue:
    return MetricValue(value) if math.isnan(low) else MetricValue(value, low, high)


def _comparisons(
    sides: Sequence[Side], names: Sequence[str], pairs: Sequence[tuple[int, int]], scoring: Scoring, plan: float | None
) -> list[Comparison]:
    """The second side of each pair against its first, one metric after the other; p values adjusted for the pairs."""
    found = [_differences(sides[a], sides[b], scoring) for a, b in pairs]
    adjusted = {name: holm([one[name].p_value for one in found]) for name in scoring.metrics}
    return [
        _comparison(
            found[number][name],
            (sides[a], names[a]),
            (sides[b], names[b]),
            p_adjusted=adjusted[name][number],
            family=len(pairs),
            level=scoring.level,
            plan=plan,
        )
        for number, (a, b) in enumerate(pairs)
        for name in scoring.metrics
    ]


def _differences(first: Side, other: Side, scoring: Scoring) -> dict[str, Difference]:
    differences: dict[str, Difference] = {}
    for names, of_probabilities in metric_parts(scoring.metrics):
        runs_a, runs_b = ([run.scores(of_probabilities=of_probabilities) for run in side] for side in (first, other))
        common: dict[str, Any] = {
            "labels": first[0].labels,
            "kind": scoring.kind,
            "samples": scoring.samples,
            "level": scoring.level,
            "seed": scoring.seed,
        }
        if len(first) == 1:
            differences |= compare_predictions(names, scores_a=runs_a[0], scores_b=runs_b[0], **common)
            continue
        paired = sorted(_seeds(first)) == sorted(_seeds(other))
        if paired:
            runs_a, runs_b = _by_seed(first, runs_a), _by_seed(other, runs_b)
        differences |= compare_seeds(names, runs_a=runs_a, runs_b=runs_b, paired=paired, **common)
    return differences


def _by_seed(side: Side, scores: list[Array]) -> list[Array]:
    """The scores in the order of the seeds, so that run i has the same seed on both sides."""
    return [scores[run] for run in np.argsort(_seeds(side))]


def _comparison(
    found: Difference,
    first_side: tuple[Side, str],
    other_side: tuple[Side, str],
    *,
    p_adjusted: float,
    family: int,
    level: float,
    plan: float | None,
) -> Comparison:
    (side_a, a), (side_b, b) = first_side, other_side
    first, other = side_a[0], side_b[0]
    greater_is_better = found.metric not in METRICS or METRICS[found.metric].greater_is_better
    only_a = only_b = disagreements = None
    if found.method == "mcnemar":
        right_a, right_b = (KINDS[run.kind].right(run.labels, run.predictions) for run in (first, other))
        counts = mcnemar(right_a, right_b)
        only_a, only_b = counts.only_a, counts.only_b
        disagreements = (only_a + only_b) / found.num_rows
    sentence = describe(
        found, greater_is_better=greater_is_better, level=level, a=a, b=b, p_adjusted=p_adjusted, family=family
    )
    if found.method != "seeds" and found.difference == 0 and _same_answers(first, other):
        same_run = Path(first.name).resolve() == Path(other.name).resolve()
        reason = f"{b} is the same run as {a}" if same_run else f"{b} answers every row exactly as {a} does"
        sentence = f"No difference on {found.metric}: {reason}."
    alpha = (1 - level) / family  # of the strictest test of the family
    if math.isnan(found.p_value):
        verdict = "undefined"
    elif p_adjusted >= 1 - level or found.difference == 0:
        verdict = "no difference"
    else:
        verdict = "better" if (found.difference > 0) == greater_is_better else "worse"
    return Comparison(
        metric=found.metric,
        a=a,
        b=b,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        p_adjusted=p_adjusted,
        method=found.method,
        verdict=verdict,
        sentence=sentence,
        only_a=only_a,
        only_b=only_b,
        detectable=smallest_difference(found, disagreements, alpha=alpha),
        disagreements=disagreements,
        plan=None
        if plan is None or verdict == "undefined"
        else planned(found, disagreements, plan, seeds=len(side_a), alpha=alpha),
    )


def _same_answers(first: ScoredRun, other: ScoredRun) -> bool:
    if first.probabilities is None or other.probabilities is None:
        return np.array_equal(first.predictions, other.predictions)
    return np.array_equal(first.probabilities, other.probabilities)


def _config_differences(sides: Sequence[Side], names: Sequence[str]) -> list[ConfigDifference]:
    """The keys in which the sides' configs differ; a predictions file has no config and no part in this."""
    configs: dict[str, RunConfig] = {}
    for name, side in zip(names, sides, strict=True):
        if side[0].config is not None:
            configs[name] = side[0].config
    if not configs:
        return []
    base = next(iter(configs.values()))
    changes = {name: {key: pair for key, *pair in config_diff(base, config)} for name, config in configs.items()}
    of_base = {key: pair[0] for change in changes.values() for key, pair in change.items()}
    left_out = {"output_dir", "tracking", "hub"} | ({"seed"} if len(sides[0]) > 1 else set())
    return [
        ConfigDifference(key, {name: change[key][1] if key in change else value for name, change in changes.items()})
        for key, value in of_base.items()
        if key.split(".")[0] not in left_out
    ]


def _require_none_worse(report: CompareReport, metrics: Sequence[str], *, first: str) -> None:
    worse = [
        f"  {one.sentence}"
        for one in report.comparisons
        if one.a == first and one.metric in metrics and one.verdict in ("worse", "undefined")
    ]
    if worse:
        raise GateFailedError("--fail-if-worse:\n" + "\n".join(worse), report)
