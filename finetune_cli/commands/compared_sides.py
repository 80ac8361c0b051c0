"""The sides of a comparison: which runs belong together, and the scores of each side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_cli.config.changes import changed
from finetune_cli.config.dump import to_yaml
from finetune_cli.errors import ConfigError
from finetune_cli.evaluation.intervals.by_family import scored_metrics
from finetune_cli.evaluation.metrics import metric_parts
from finetune_cli.evaluation.seed_summary import summarise_seeds
from finetune_cli.records.comparison import ComparedSide
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.plain import plain
from finetune_cli.runs.scored_runs import ScoredRun, metric_values, variances_over_rows
from finetune_cli.tasks import Kind

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Side:
    """One run, or the runs of one setting with different seeds."""

    name: str
    runs: list[ScoredRun]

    @property
    def seeds(self) -> list[int]:
        return [run.config.seed for run in self.runs if run.config is not None]


@dataclass(frozen=True)
class Scoring:
    """How all sides are scored, and the size, level and seed of the bootstrap that compares them."""

    metrics: tuple[str, ...]
    kind: Kind
    samples: int
    level: float
    seed: int


def sides_of(groups: Sequence[list[ScoredRun]]) -> list[Side]:
    """The sides, with their names. groups: of each directory or file that was named, its runs.

    Single runs of one setting are a side together, when there are two settings or more with two seeds or more each;
    otherwise each is one. Raises ConfigError where one group has several seeds and another a single run.
    """
    alone = [group for group in groups if len(group) == 1]
    several = [group for group in groups if len(group) > 1]
    if several and alone:
        raise ConfigError(
            f"{alone[0][0].name} is one run, and another side has several seeds. Compare it with one of those, such "
            f"as {several[0][0].name}, or train it with several seeds, too."
        )
    groups = several or _by_setting([group[0] for group in alone]) or alone
    return [Side(LETTERS[n] if n < len(LETTERS) else f"R{n + 1}", group) for n, group in enumerate(groups)]


def _by_setting(runs: Sequence[ScoredRun]) -> list[list[ScoredRun]] | None:
    """Runs of one setting together; None when that does not make two sides or more of several seeds each."""
    settings: dict[str, list[ScoredRun]] = {}
    for run in runs:
        if run.config is None:
            return None
        setting = changed(run.config, {"seed": 0, "output_dir": "", "tracking": (), "hub": None})
        settings.setdefault(to_yaml(setting), []).append(run)
    groups = list(settings.values())
    repeated = [len({run.config.seed for run in group if run.config}) == len(group) > 1 for group in groups]
    return groups if len(groups) > 1 and all(repeated) else None


def scored_side(side: Side, scoring: Scoring) -> ComparedSide:
    """A run's scores with their intervals; of several seeds the means, with Student's t intervals."""
    names, collapsed = (
        [run.name for run in side.runs],
        {run.name: run.collapsed for run in side.runs if run.collapsed is not None},
    )
    if len(side.runs) == 1:
        return ComparedSide(side.name, names, side.seeds, _with_intervals(side.runs[0], scoring), collapsed=collapsed)
    values = [metric_values(run, scoring.metrics) for run in side.runs]
    of_rows = variances_over_rows(side.runs, scoring.metrics, samples=scoring.samples, seed=scoring.seed)
    means, sds = {}, {}
    for metric in scoring.metrics:
        of_runs = [of_run[metric] for of_run in values]
        summary = summarise_seeds(of_runs, level=scoring.level, row_variance=of_rows[metric])
        means[metric] = MetricValue(summary.mean, plain(summary.low), plain(summary.high))
        sds[metric] = summary.sd
    return ComparedSide(side.name, names, side.seeds, means, sds, collapsed)


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
