"""The scores of one split and its gates, as several commands print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetune_cli.records.evaluation import EvalReport, GateOutcome

if TYPE_CHECKING:
    from finetune_cli.display.terminal import Output


def scores(out: Output, report: EvalReport) -> None:
    """`f1 0.899 [0.872, 0.923] n=408` for each metric, with its corrected score and the baseline beside it."""
    out.heading(f"{report.split}: {report.n} rows, loss {report.loss:.4f}")
    baseline = f"always {report.baseline_answer}"
    chosen = report.shows_corrected
    header = ["score", *(["corrected"] if chosen else []), *([baseline] if report.baseline else [])]
    rows = []
    for name, metric in report.metrics.items():
        beside = [str(report.corrected.get(name, "-"))] if chosen else []
        if report.baseline:
            beside.append(f"{report.baseline[name]:.3f}" if name in report.baseline else "-")
        rows.append([f"{name} {metric} n={report.n}", *beside])
    out.table(header, rows)
    if report.choice is not None:
        out.line(f"  {report.choice}")
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
