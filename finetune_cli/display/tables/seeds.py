"""The summary over several seeds as people read it."""

from __future__ import annotations

from finetune_cli.display.tables.scores import gate_lines
from finetune_cli.display.tables.several import closing, quoted, run_lines, score_table
from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.training import SeedsReport, SplitSummary
from finetune_cli.runs.run_dir import RunDir

SHOWN_SEEDS = 5  # of a table, so that it fits 80 columns


def seeds_result(out: Output, report: SeedsReport) -> None:
    """Mean, spread and values of each score, the seeds that failed or collapsed, and what to type next."""
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
    out.heading(f"{split.split}: {counted(split.n, 'row')}, {counted(len(seeds), 'seed')}")
    score_table(out, "seed", split, seeds if len(seeds) <= SHOWN_SEEDS else ())
    for seed, run in report.runs.items():
        decision = next(scored.decision for scored in run.evaluations if scored.split == split.split)
        if decision is not None:
            too_good = ", fitted on these rows: too good" * decision.rule.was_fitted_on(split.split, split.n)
            out.line(f"  Seed {seed} is scored with its decision rule{too_good}.")
    out.line(f"  {100 * report.level:g} % intervals of the mean, by Student's t: the luck of seeds and of rows.")
    out.line()


def _next(out: Output, report: SeedsReport) -> None:
    run = RunDir(report.run_dir)
    seeds = {f"seed {seed}": run_of_seed.run_dir for seed, run_of_seed in report.runs.items()}
    places = {"summary": run.summary, **seeds}
    named = run.member("seed", report.best.seed if report.best is not None else next(iter(report.runs)))
    commands = [f"finetune evaluate {quoted(named.path)}", f"finetune compare {quoted(run.path)} OTHER_RUN"]
    closing(out, places, commands, width=max(map(len, places)) + 1, finished=None if report.failed else run.path)
