"""What `finetune export` prints."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from finetune_cli.errors import counted
from finetune_cli.records.export import KEPT_IN_FLOAT, Drop, Equality, ExportReport

if TYPE_CHECKING:
    from finetune_cli.display.terminal import Output

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


def _equality(out: Output, report: ExportReport, found: Equality) -> None:
    rows, scores_decide = counted(found.n, "row"), found.tolerance is None
    verdict = (
        ""
        if scores_decide
        else f", at most {found.tolerance:.0e} allowed: {'proven' if report.proven else 'NOT PROVEN'}"
    )
    out.line(f"  {report.split}, {rows}: largest difference of a logit {found.largest_difference:.2g}{verdict}")
    if found.changed is not None:
        out.line(f"  answers changed: {found.num_changed} of {found.n}, share {found.changed}")
    out.line()
    header = ["score", "model", "exported", "difference"]
    out.table(
        [*header, *(["allowed", "verdict"] if scores_decide else [])],
        [_row(drop)[: None if scores_decide else len(header)] for drop in found.drops],
    )
    bounds = [drop.allowed for drop in found.drops]
    high = found.changed.high if found.changed else None
    if scores_decide and bounds and high is not None and high > min(bounds):
        out.line(
            f"  {rows} cannot show that fewer than {high:.1%} of all answers change. --data FILE with more rows can."
        )


def _limit(report: ExportReport) -> str:
    if report.equality is None or report.equality.tolerance is None:
        return ""
    return f", at most {report.equality.tolerance:.0e} allowed: {'proven' if report.proven else 'NOT PROVEN'}"


def _row(drop: Drop) -> list[str]:
    if math.isnan(drop.difference):
        return [drop.metric, "-", "-", "-", f"{drop.allowed:g}", "not defined on these rows"]
    difference = f"{drop.difference:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}]"
    verdict = "not worse" if drop.passed else "NOT PROVEN"
    return [drop.metric, f"{drop.model:.4f}", f"{drop.exported:.4f}", difference, f"{drop.allowed:g}", verdict]
