"""The summary of a cross-validation as people read it."""

from __future__ import annotations

from finetune_cli.display.tables.scores import gate_lines, scores
from finetune_cli.display.tables.several import closing, quoted, run_lines, score_table
from finetune_cli.display.terminal import Output
from finetune_cli.records.folds import FoldsReport
from finetune_cli.records.training import SplitSummary
from finetune_cli.runs.run_dir import RunDir


def folds_result(out: Output, report: FoldsReport) -> None:
    """The scores of all rows, then the scores over the folds, which say something else, and what to type next."""
    out.line()
    if report.pooled:
        scores(out, report.pooled, stopped_early=any(run.stopped_early for run in report.runs.values()))
        out.line("  Each row is scored by the fold that did not train on it; intervals: the luck of the rows.")
        out.line()
    for split in report.splits:
        _over_folds(out, report, split)
    gate_lines(out, report.gates)
    run_lines(out, "fold", report.runs, report.failed, count=report.num_folds)
    if report.runs:
        _next(out, report)


def _over_folds(out: Output, report: FoldsReport, split: SplitSummary) -> None:
    out.heading(f"{split.split} over {len(report.runs)} folds")
    score_table(out, "fold", split)
    out.line(f"  {100 * report.level:g} % intervals of the mean: corrected resampled t (Nadeau and Bengio 2003), since")
    out.line("  folds share training rows. Each fold keeps its best evaluation on the rows that score it, so a score")
    out.line("  with many evaluations is a little too good.")
    out.line()


def _next(out: Output, report: FoldsReport) -> None:
    run = RunDir(report.run_dir)
    places = {"scores": run.path / "eval", "summary": run.summary, "folds": run.path / "fold-N"}
    commands = [f"finetune compare {quoted(run.path)} OTHER_RUN"]
    if report.final is not None:
        out.line(f"Final model: {report.final.steps} updates on all rows; its scores are those of the folds, above.")
        places["model"] = run.final.model
        commands.insert(0, f"finetune predict {quoted(run.final.path)} --text ...")
    elif not report.failed and all(gate.passed for gate in report.gates):
        commands.insert(0, f"finetune train {quoted(run.config)} --final   (one model on all rows)")
    closing(out, places, commands, finished=None if report.failed else run.path)
