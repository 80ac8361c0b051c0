"""What `finetune export` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from finetune_cli.errors import counted
from finetune_cli.records.export import Drop, Equality, ExportReport

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
    if report.equality is not None:
        _equality(out, report, report.equality)


def _equality(out: Output, report: ExportReport, found: Equality) -> None:
    limit = "" if found.tolerance is None else f", at most {found.tolerance:.0e} allowed"
    rows = counted(found.n, "row")
    out.line(f"  {report.split}, {rows}: largest difference of a logit {found.largest_difference:.2g}{limit}")
    if found.changed is not None:
        out.line(f"  answers changed: {found.num_changed} of {found.n}, share {found.changed}")
    out.line()
    header = ["score", "model", "exported", "difference", "allowed", "verdict"]
    out.table(header, [_row(drop, decides=found.tolerance is None) for drop in found.drops])
    bounds = [drop.allowed for drop in found.drops]
    high = found.changed.high if found.changed else None
    if found.tolerance is None and bounds and high is not None and high > min(bounds):
        out.line(
            f"  {rows} cannot show that fewer than {high:.1%} of all answers change. --data FILE with more rows can."
        )


def _row(drop: Drop, *, decides: bool) -> list[str]:
    if math.isnan(drop.difference):
        return [drop.metric, "-", "-", "-", f"{drop.allowed:g}", "not defined on these rows"]
    difference = f"{drop.difference:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}]"
    verdict = ("not worse" if drop.passed else "NOT PROVEN") if decides else ""
    return [drop.metric, f"{drop.model:.4f}", f"{drop.exported:.4f}", difference, f"{drop.allowed:g}", verdict]
