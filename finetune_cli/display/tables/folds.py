"""The summary of a cross-validation as people read it; with --json, the same as one document."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from finetune_cli.display.tables.scores import gate_lines, scores
from finetune_cli.display.tables.several import checkpoints_line, collapsed_lines, mean, run_lines
from finetune_cli.records.folds import FoldsReport
from finetune_cli.records.training import SplitSummary
from finetune_cli.runs.run_dir import RunDir

if TYPE_CHECKING:
    from finetune_cli.display.terminal import Output


def folds_result(out: Output, report: FoldsReport) -> None:
    """The scores of all rows, then the scores over the folds, which say something else, and what to type next."""
    if out.as_json:
        out.json(report.to_json())
        return
    out.line()
    if report.pooled:
        scores(out, report.pooled)
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
    rows = []
    for name, score in split.metrics.items():
        values = list(score.values.values())
        rows.append([name, mean(score), f"{score.sd:.3f}", f"{min(values):.3f}", f"{max(values):.3f}"])
    out.table(["score", "mean", "sd", "lowest", "highest"], rows)
    collapsed_lines(out, "fold", split)
    out.line(f"  {100 * report.level:g} % intervals of the mean: corrected resampled t (Nadeau and Bengio 2003), since")
    out.line("  folds share training rows. Each fold keeps its best evaluation on the rows that score it, so a score")
    out.line("  with many evaluations is a little too good.")
    out.line()


def _next(out: Output, report: FoldsReport) -> None:
    run = RunDir(report.run_dir)
    if report.final is not None:
        updates = f"{report.final.steps} updates on all rows; its scores are those of the folds, above"
        out.line(f"Final model: {updates}.")
    out.line(f"  scores     {run.path / 'eval'}")
    out.line(f"  summary    {run.summary}")
    out.line(f"  folds      {run.path / 'fold-N'}")
    if report.final is not None:
        out.line(f"  model      {run.final.model}")
    if not report.failed:
        checkpoints_line(out, run.path)
    out.line()
    out.heading("Next")
    if report.final is not None:
        out.line(f"  finetune predict {shlex.quote(str(run.final.path))} --text ...")
    elif not report.failed and all(gate.passed for gate in report.gates):
        out.line(f"  finetune train {shlex.quote(str(run.config))} --final   (one model on all rows)")
    out.line(f"  finetune compare {shlex.quote(str(run.path))} OTHER_RUN")
