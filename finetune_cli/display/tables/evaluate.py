"""What `finetune evaluate` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune_cli.display.tables.decision import answered_rows, decision_effect
from finetune_cli.display.tables.scores import gate_lines, scores
from finetune_cli.records.evaluation import MANY_CLASSES, EvalReport

if TYPE_CHECKING:
    from finetune_cli.display.terminal import Output

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
        decision_effect(out, report, report.decision)
    if report.answered:
        answered_rows(out, report.answered)
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
