"""The scores of one split and its gates, as several commands print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetune_cli.records.evaluation import EvalReport, GateOutcome

if TYPE_CHECKING:
    from finetune_cli.display.terminal import Output


def scores(out: Output, report: EvalReport) -> None:
    """`f1 0.899 [0.872, 0.923] n=408` for each metric, with the baseline beside it."""
    out.heading(f"{report.split}: {report.n} rows, loss {report.loss:.4f}")
    baseline = f"always {report.baseline_answer}"
    header = ["score", baseline] if report.baseline else ["score"]
    rows = []
    for name, metric in report.metrics.items():
        baseline_cell = [f"{report.baseline[name]:.3f}" if name in report.baseline else "-"] if report.baseline else []
        rows.append([f"{name} {metric} n={report.n}", *baseline_cell])
    out.table(header, rows)
    if report.collapsed is not None:
        out.line(f"  {collapsed_line(report.collapsed)}")
    if report.decision is not None:
        out.line(f"  decision rule: {report.decision.rule}")


def collapsed_line(name: str) -> str:
    return f"Collapsed: every row is given the answer {name!r}, as by a model that has learned nothing."


def gate_lines(out: Output, gates: Sequence[GateOutcome]) -> None:
    """A line for each gate: passed or failed, and why."""
    for gate in gates:
        out.line(f"gate {gate.gate}: {'passed' if gate.passed else 'FAILED'}, {gate.finding}")
