"""The summary of a cross-validation as people read it; with --json, the same as one document."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from finetune_cli.display.progress import duration
from finetune_cli.display.tables.scores import gate_lines, scores
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
    for fold, error in report.failed.items():
        out.line(f"Fold {fold} failed: {error}")
    if not report.runs:
        return
    out.line(f"{len(report.runs)} of {report.num_folds} folds trained, {duration(report.seconds)} of training in all.")
    if before := [str(fold) for fold, run in report.runs.items() if run.already_finished]:
        out.line(f"Finished before, and not trained again: fold {', '.join(before)}.")
    out.line()
    _next(out, report)


def _over_folds(out: Output, report: FoldsReport, split: SplitSummary) -> None:
    out.heading(f"{split.split} over {len(report.runs)} folds")
    rows = []
    for name, score in split.metrics.items():
        values = list(score.values.values())
        mean = f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"
        rows.append([name, mean, f"{score.sd:.3f}", f"{min(values):.3f}", f"{max(values):.3f}"])
    out.table(["score", "mean", "sd", "lowest", "highest"], rows)
    for fold, name in split.collapsed.items():
        out.line(
            f"  Collapsed: fold {fold} gives every row the class {name!r}, as a model does that has learned nothing."
        )
    out.line(f"  {100 * report.level:g} % intervals of the mean: corrected resampled t (Nadeau and Bengio 2003), since")
    out.line("  folds share training rows. Each fold keeps its best evaluation on the rows that score it, so a score")
    out.line("  with many evaluations is a little too good.")
    out.line()


def _next(out: Output, report: FoldsReport) -> None:
    run = RunDir(report.run_dir)
    out.line(f"  scores     {run.path / 'eval'}")
    out.line(f"  summary    {run.summary}")
    out.line(f"  folds      {run.path / 'fold-N'}")
    out.line()
    out.heading("Next")
    out.line(f"  finetune compare {shlex.quote(str(run.path))} OTHER_RUN")
