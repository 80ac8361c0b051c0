"""What `finetune evaluate` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune_cli.display.tables.decision import answered_rows, decision_effect
from finetune_cli.display.tables.scores import gate_lines, scores
from finetune_cli.records.evaluation import EvalReport

if TYPE_CHECKING:
    from finetune_cli.display.terminal import Output

SHOWN_CLASSES = 5  # of a confusion matrix, so that it fits 80 columns
SHOWN_NAME = 10  # characters of a class name over a column, so that five of them fit
SHOWN_CONFUSIONS = 10


def evaluate_result(out: Output, report: EvalReport) -> None:
    """All that is known of the scores of one split."""
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
    out.table(
        ["class", "precision", "recall", "f1", "rows"],
        [
            [one.label, f"{one.precision:.3f}", f"{one.recall:.3f}", one.shown("f1"), str(one.support)]
            for one in report.per_class
        ],
    )
    if report.confusion:
        out.line()
        _confusion(out, report)


def _confusion(out: Output, report: EvalReport) -> None:
    """The whole matrix of a few classes, the commonest mistakes of many."""
    names, corner = [one.label for one in report.per_class], r"true \ predicted"
    if len(names) <= SHOWN_CLASSES:
        rows = [
            [_shortened(name, len(corner)), *map(str, counts)]
            for name, counts in zip(names, report.confusion, strict=True)
        ]
        out.table([corner, *(_shortened(name) for name in names)], rows)
        return
    mistakes = [
        (count, names[true], names[predicted])
        for true, counts in enumerate(report.confusion)
        for predicted, count in enumerate(counts)
        if count and true != predicted
    ]
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
