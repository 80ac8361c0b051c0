"""The page of a sweep: the best trial and what it is worth, how the search went, which settings mattered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finetune_cli.config.fields import RunConfig, SweepConfig
from finetune_cli.records.sweep import SweepReport
from finetune_cli.report.charts import domain_of
from finetune_cli.report.rendering import render_html
from finetune_cli.report.search_charts import Axis, history_chart, parallel_chart, slice_chart
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.system.files import write_text


def write_sweep_page(run: RunDir, config: RunConfig, settings: SweepConfig, report: SweepReport) -> None:
    """Write report.html of the sweep: one file without scripts, as all pages."""
    facts, level = list(_facts(config, settings, report)), config.evaluation.bootstrap.level
    write_text(run.report, sweep_html(run.path.resolve().name, settings.parameters, report, facts=facts, level=level))


def sweep_html(
    title: str, parameters: Mapping[str, Any], report: SweepReport, *, facts: Sequence[tuple[str, str]], level: float
) -> str:
    """parameters: what was searched, as in the config. facts: (name, value) about the search. level: of intervals."""
    axes = [Axis(key, choice) for key, choice in parameters.items()]
    differences = [one.ahead for one in report.comparisons]
    return render_html(
        "sweep.html",
        title=title,
        report=report,
        best=None if report.best is None else report.trial(report.best),
        facts=facts,
        history=history_chart(report),
        slices=[(axis, slice_chart(report, axis)) for axis in axes],
        parallel=parallel_chart(report, axes),
        names=[axis.name for axis in axes],
        differences=domain_of([0.0, *(end for one in differences for end in (one.low, one.high))], step=0.02),
        level=f"{100 * level:g} %",
    )


def _facts(config: RunConfig, settings: SweepConfig, report: SweepReport) -> Iterator[tuple[str, str]]:
    states = [trial.state for trial in report.trials]
    yield "task", config.task
    yield "data", config.data.path
    yield "search", f"{settings.sampler}, pruner {settings.pruner}, seed {settings.seed}"
    yield "trials", ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    if report.folds:
        yield "scored by", f"{report.folds} folds: each row by a model that was not trained on it"
