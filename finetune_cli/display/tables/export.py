"""What `finetune export` prints."""

from __future__ import annotations

import math
import shlex

from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.export import KEPT_IN_FLOAT, Drop, Equality, ExportReport

MEGABYTE = 1e6


def export_result(out: Output, report: ExportReport) -> None:
    """Size, and how it compares with the model; also of an export that was refused."""
    if out.as_json:
        out.json(report.to_json())
        return
    share = f" ({report.bytes / report.bytes_before:.2f} of the model's)" if report.bytes_before else ""
    heading = report.output if report.proven else "not written"
    out.heading(f"{heading}: {report.format} {report.dtype}, {report.bytes / MEGABYTE:.1f} MB{share}")
    if report.faster_refused:
        out.line(f"  all products in 8 bits: not proven ({'; '.join(report.faster_refused)})")
        out.line(f"  so {KEPT_IN_FLOAT} was left in float32")
    if report.equality is not None:
        _equality(out, report, report.equality)
    if report.proven:
        out.line()
        out.heading("Next")
        out.line(f"  finetune predict {shlex.quote(report.output)} FILE -o labelled.csv")


def _equality(out: Output, report: ExportReport, equality: Equality) -> None:
    """How far the logits are apart, and the scores; these alone decide where logits have no tolerance."""
    rows, changed, verdict = counted(equality.n, "row"), equality.changed, ""
    columns = ["score", "model", "exported", "difference", "allowed", "verdict"]
    if equality.tolerance is not None:
        columns = columns[:4]
        verdict = f", at most {equality.tolerance:.0e} allowed: {'proven' if report.proven else 'NOT PROVEN'}"
    out.line(f"  {report.split}, {rows}: largest difference of a logit {equality.largest_difference:.2g}{verdict}")
    if changed is not None:
        out.line(f"  answers changed: {equality.num_changed} of {equality.n}, share {changed}")
    out.line()
    out.table(columns, [_row(drop)[: len(columns)] for drop in equality.drops])
    high = None if changed is None or equality.tolerance is not None else changed.high
    if high is not None and equality.drops and high > min(drop.allowed for drop in equality.drops):
        out.line(
            f"  {rows} cannot show that fewer than {high:.1%} of all answers change. --data FILE with more rows can."
        )


def _row(drop: Drop) -> list[str]:
    if math.isnan(drop.difference):
        return [drop.metric, "-", "-", "-", f"{drop.allowed:g}", "not defined on these rows"]
    difference = f"{drop.difference:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}]"
    verdict = "not worse" if drop.passed else "NOT PROVEN"
    return [drop.metric, f"{drop.model:.4f}", f"{drop.exported:.4f}", difference, f"{drop.allowed:g}", verdict]
