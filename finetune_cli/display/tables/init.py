"""What `finetune init` prints."""

from __future__ import annotations

import dataclasses

from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.init import InitReport


def init_result(out: Output, report: InitReport) -> None:
    """Each choice with its reason, the questions, and the commands to type next; with --quiet, what was written."""
    if out.as_json:
        out.json(dataclasses.asdict(report))
        return
    written = f"Wrote {', '.join(map(str, report.written))}."
    if out.quiet:
        asked = f" {counted(len(report.questions), 'question')} to settle in it." if report.questions else ""
        out.line(f"{written}{asked}")
        return
    out.line(f"{report.source}:")
    for choice in report.choices:
        out.line(f"  {choice.key}: {choice.value}{f'  ({choice.why})' if choice.why else ''}")
    if report.questions:
        out.line()
        out.heading("To settle, also in the config:")
        for question in report.questions:
            out.line(f"  ? {question}")
    out.line()
    out.line(f"{written} Next:")
    for command in report.next:
        out.line(f"  {command}")
