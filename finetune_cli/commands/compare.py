"""finetune compare: which run is better, and is the difference real. Reads files alone; no torch."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import combinations

from finetune_cli.commands.comparisons import Scoring, Side, comparisons, scored_side, sides_of
from finetune_cli.config.dump import config_diff
from finetune_cli.errors import ConfigError, GateFailedError, did_you_mean
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.records.comparison import CompareReport, ConfigDifference
from finetune_cli.records.resampling import Resampling
from finetune_cli.runs.scored_runs import ScoredRun, pair_rows, read_scored_runs
from finetune_cli.tasks import KIND_SPECS, TASKS, Kind, metric_problem, metrics_for

logger = logging.getLogger(__name__)

DRAWS_PER_COMPARISON = 5  # times 1 / alpha: the least p of a bootstrap, adjusted, is then 0.4 alpha

SCORED_WITH_ALL = "Score the runs again with: finetune evaluate RUN --probabilities all"


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
    sides = sides_of(groups)
    pairs = list(combinations(sides, 2)) if all_pairs else [(sides[0], side) for side in sides[1:]]
    scoring = Scoring(_metrics(scored, metrics, fail_if_worse), _resampling(scored, family=len(pairs)))
    report = CompareReport(
        split=split if any(run.config for run in scored) else None,
        n=len(first.ids),
        level=scoring.resampling.level,
        samples=scoring.resampling.samples,
        seeds=len(sides[0].runs) > 1,
        sides=[scored_side(side, scoring) for side in sides],
        config_differences=_config_differences(sides),
        comparisons=comparisons(pairs, scoring, plan),
        family=len(pairs),
    )
    _require_none_worse(report, fail_if_worse, first=sides[0].name)
    return report


def _resampling(runs: Sequence[ScoredRun], *, family: int) -> Resampling:
    """The most draws that a run's config has, and enough for so many comparisons, whichever run is named first.

    The least p of a bootstrap is 2 / (draws + 1). Adjusted for the family it has to stay well below 1 - level.
    """
    own = [run.config.resampling.to_compare for run in runs if run.config is not None] or [Resampling()]
    level = max(of_run.level for of_run in own)
    enough = math.ceil(DRAWS_PER_COMPARISON * family / (1 - level))
    return Resampling(max(enough, *(of_run.samples for of_run in own)), level, min(of_run.seed for of_run in own))


def _metrics(runs: Sequence[ScoredRun], metrics: Sequence[str], fail_if_worse: Sequence[str]) -> tuple[str, ...]:
    """The user's metrics, else those of the runs' configs, else the usual ones."""
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
    return tuple(names)


def _needs_all(name: str, kind: Kind) -> bool:
    """Whether a metric looks at more probabilities than those of the likeliest class and of the label."""
    return name in KINDS[kind].score_metrics and (KIND_SPECS[kind].several_labels or name in ("auroc", "brier"))


def _config_differences(sides: Sequence[Side]) -> list[ConfigDifference]:
    """The keys in which the sides' configs differ; a predictions file has no config and no part in this."""
    configs = {side.name: side.runs[0].config for side in sides if side.runs[0].config is not None}
    if not configs:
        return []
    base = next(iter(configs.values()))
    changes = {name: {key: pair for key, *pair in config_diff(base, config)} for name, config in configs.items()}
    of_base = {key: pair[0] for change in changes.values() for key, pair in change.items()}
    left_out = {"output_dir", "tracking", "hub"} | ({"seed"} if len(sides[0].runs) > 1 else set())
    return [
        ConfigDifference(key, {name: change[key][1] if key in change else value for name, change in changes.items()})
        for key, value in of_base.items()
        if key.split(".")[0] not in left_out
    ]


def _require_none_worse(report: CompareReport, metrics: Sequence[str], *, first: str) -> None:
    worse = [
        f"  {comparison.sentence}"
        for comparison in report.comparisons
        if comparison.a == first and comparison.metric in metrics and comparison.verdict in ("worse", "undefined")
    ]
    if worse:
        raise GateFailedError("--fail-if-worse:\n" + "\n".join(worse), report)
    if metrics:
        logger.info("--fail-if-worse %s: passed, no run is shown to be worse than %s", ", ".join(metrics), first)
