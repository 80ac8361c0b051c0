"""The summary over several seeds as people read it; with --json, the same as one document."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from finetune_cli.display.tables.scores import gate_lines
from finetune_cli.display.tables.several import checkpoints_line, collapsed_lines, mean, run_lines
from finetune_cli.errors import counted
from finetune_cli.records.training import SeedsReport, SplitSummary
from finetune_cli.runs.run_dir import RunDir

if TYPE_CHECKING:
    from finetune_cli.display.terminal import Output
    from finetune_cli.records.evaluation import DecisionEffect

SHOWN_SEEDS = 5  # of a table, so that it fits 80 columns


def seeds_result(out: Output, report: SeedsReport) -> None:
    """Mean, spread and values of each score, the seeds that failed or collapsed, and what to type next."""
    if out.as_json:
        out.json(report.to_json())
        return
    out.line()
    for split in report.splits:
        _scores(out, report, split)
    if report.best is not None:
        out.line(str(report.best))
        out.line()
    gate_lines(out, report.gates)
    run_lines(out, "seed", report.runs, report.failed, count=len(report.seeds))
    if report.runs:
        _next(out, report)


def _scores(out: Output, report: SeedsReport, split: SplitSummary) -> None:
    seeds = list(report.runs)
    shown = seeds if len(seeds) <= SHOWN_SEEDS else []
    out.heading(f"{split.split}: {counted(split.n, 'row')}, {counted(len(seeds), 'seed')}")
    header = ["score", "mean", "sd", *(f"seed {seed}" for seed in shown), *([] if shown else ["lowest", "highest"])]
    rows = []
    for name, score in split.metrics.items():
        values = [score.values[seed] for seed in shown] or [min(score.values.values()), max(score.values.values())]
        rows.append([name, mean(score), f"{score.sd:.3f}", *(f"{value:.3f}" for value in values)])
    out.table(header, rows)
    collapsed_lines(out, "seed", split)
    for seed, run in report.runs.items():
        decision = next(scored.decision for scored in run.evaluations if scored.split == split.split)
        if decision is not None:
            out.line(f"  Seed {seed} is scored with its decision rule{_optimistic(decision, split)}.")
    out.line(f"  {100 * report.level:g} % intervals of the mean, by Student's t: the luck of seeds and of rows.")
    out.line()


def _optimistic(decision: DecisionEffect, split: SplitSummary) -> str:
    return ", fitted on these rows: too good" if decision.rule.was_fitted_on(split.split, split.n) else ""


def _next(out: Output, report: SeedsReport) -> None:
    run = RunDir(report.run_dir)
    width = max(len("summary"), *(len(f"seed {seed}") for seed in report.runs))
    out.line(f"  {'summary':{width}}  {run.summary}")
    for seed, run_of_seed in report.runs.items():
        out.line(f"  {f'seed {seed}':{width}}  {run_of_seed.run_dir}")
    if not report.failed:
        checkpoints_line(out, run.path)
    out.line()
    out.heading("Next")
    name = shlex.quote(str(run.path))
    out.line(f"  finetune evaluate {shlex.quote(str(run.member('seed', next(iter(report.runs))).path))}")
    out.line(f"  finetune compare {name} OTHER_RUN")
