"""The decision rule of a model and what it changes, as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune_cli.errors import counted

if TYPE_CHECKING:
    from finetune_cli.display.terminal import Output
    from finetune_cli.records.evaluation import Answered, DecisionEffect, EvalReport


def decision_effect(out: Output, report: EvalReport, effect: DecisionEffect) -> None:
    """Scores without and with the rule, and on which rows it was fitted."""
    out.line()
    header = ["score", "without the rule", "with it"]
    rows = [[name, str(effect.before[name]), str(effect.after[name])] for name in effect.before]
    if effect.cross_validated:
        header.append("cross-validated")
        rows = [[*row, str(effect.cross_validated[row[0]])] for row in rows]
    out.table(header, rows)
    if effect.cross_validated:
        out.line("  It was fitted on these rows: scores with it are optimistic. Cross-validated: each")
        out.line("  fifth of the rows scored by a rule that was fitted on the others.")
    elif effect.rule.was_fitted_on(report.split, report.n):
        out.line("  It was fitted on these rows: scores with it are optimistic, and there are too few")
        out.line("  rows to cross-validate.")
    else:
        out.line(f"  It was fitted on {counted(effect.rule.n, 'row')} of {effect.rule.split}.")


def answered_rows(out: Output, answered: Answered) -> None:
    """How many rows are answered with `--min-confidence`, and the scores of these."""
    out.line()
    rows, are = counted(answered.n, "row"), "is" if answered.n == 1 else "are"
    how = f"{rows} ({answered.coverage:.1%}) {are} answered with a confidence of {answered.min_confidence:g}"
    out.line(f"{how} or more" + ("; their scores:" if answered.metrics else "."))
    if answered.metrics:
        out.table(["score"], [[f"{name} {metric} n={answered.n}"] for name, metric in answered.metrics.items()])
