"""What `finetune evaluate` prints."""

from __future__ import annotations

from finetune_cli.display.tables.scores import gate_lines, scores
from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.evaluation import MANY_CLASSES, Answered, DecisionEffect, EvalReport

SHOWN_OF_MANY = 20  # lines, of more classes than that have a matrix
SHOWN_CLASSES = 5  # of a confusion matrix, so that it fits 80 columns
SHOWN_NAME = 10  # characters of a class name over a column, so that five of them fit
SHOWN_CONFUSIONS = 10


def evaluate_result(out: Output, report: EvalReport) -> None:
    """The scores of one split, with classes, confusion matrix and gates where it has them."""
    if out.as_json:
        out.json(report.to_json())
        return
    scores(out, report)
    if report.decision:
        _decision_effect(out, report, report.decision)
    if report.answered:
        _answered_rows(out, report.answered)
    gate_lines(out, report.gates)
    if not report.per_class:
        return
    out.line()
    shown = report.per_class
    if len(shown) > MANY_CLASSES:
        shown = sorted((row for row in shown if row.support), key=lambda row: row.f1)[:SHOWN_OF_MANY]
    out.table(
        ["class", "precision", "recall", "f1", "rows"],
        [[row.label, f"{row.precision:.3f}", f"{row.recall:.3f}", row.shown("f1"), str(row.support)] for row in shown],
    )
    if len(shown) < len(report.per_class):
        out.line(f"  the {len(shown)} lowest F1 of {len(report.per_class)} classes; metrics.json has all")
    if report.confusion or report.confusion_cells:
        out.line()
        _confusion(out, report)


def _decision_effect(out: Output, report: EvalReport, effect: DecisionEffect) -> None:
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


def _answered_rows(out: Output, answered: Answered) -> None:
    """How many rows are answered with `--min-confidence`, and the scores of these."""
    out.line()
    rows, are = counted(answered.n, "row"), "is" if answered.n == 1 else "are"
    how = f"{rows} ({answered.coverage:.1%}) {are} answered with a confidence of {answered.min_confidence:g}"
    out.line(f"{how} or more" + ("; their scores:" if answered.metrics else "."))
    if answered.metrics:
        out.table(["score"], [[f"{name} {metric} n={answered.n}"] for name, metric in answered.metrics.items()])


def _confusion(out: Output, report: EvalReport) -> None:
    """The whole matrix for a few classes; for many, the most frequent mistakes."""
    names, corner = [row.label for row in report.per_class], r"true \ predicted"
    if len(names) <= SHOWN_CLASSES:
        rows = [
            [_shortened(name, len(corner)), *map(str, counts)]
            for name, counts in zip(names, report.confusion, strict=True)
        ]
        out.table([corner, *(_shortened(name) for name in names)], rows)
        return
    mistakes = [(count, names[true], names[given]) for true, given, count in report.cells() if true != given]
    mistakes.sort(key=lambda mistake: -mistake[0])
    if not mistakes:
        out.line("  No mistakes.")
        return
    shown = mistakes[:SHOWN_CONFUSIONS]
    out.table(
        ["true", "predicted", "rows"], [[true, predicted, str(count)] for count, true, predicted in shown], left=2
    )
    if len(mistakes) > len(shown):
        out.line(f"  and {len(mistakes) - len(shown)} rarer kinds of mistake")


def _shortened(name: str, width: int = SHOWN_NAME) -> str:
    return name if len(name) <= width else f"{name[: width - 3]}..."
