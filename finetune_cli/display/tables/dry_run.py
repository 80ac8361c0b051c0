"""What `finetune train --dry-run` prints."""

from __future__ import annotations

import dataclasses

from finetune_cli.display.progress import duration
from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.training import DryRunReport, MemoryEstimate


def dry_run_result(out: Output, report: DryRunReport) -> None:
    if out.as_json:
        out.json(report.to_json())
        return
    tokens = report.micro_batch_tokens
    at_once = counted(report.micro_batch_size, "row") if tokens is None else f"{tokens:,} tokens"
    updates = f"{report.updates:,} ({report.updates_per_epoch:,} an epoch)"
    per_update = f"{report.seconds_per_update:.3g} s (median; mean {report.mean_seconds_per_update:.3g} s, "
    others = "; the others are embeddings of words that no training row has, or frozen by the config"
    lines = {
        "device": f"{report.device}, {report.precision}, {at_once} at once",
        "parameters": f"{report.trained_parameters:,} of {report.parameters:,} are trained"
        + others * (report.trained_parameters < report.parameters),
        "runs": f"{report.runs}, one for each seed" if report.runs > 1 else "",
        "updates": updates,
        "per update": f"{per_update}longest rows {report.seconds_longest_update:.3g} s)",
        "evaluations": f"{report.evaluations} with the final scoring, {report.seconds_per_evaluation:.3g} s each",
        "estimated time": f"{duration(report.estimated_seconds)} (start, checkpoints and intervals come on top)",
        "estimated memory": _estimate(report.estimated_memory),
        "peak memory": _gigabytes(report.peak_memory_bytes),
        "device memory": f"{_gigabytes(report.device_memory_bytes)} of {_gigabytes(report.device_memory_total_bytes)}"
        if report.device_memory_bytes and report.device_memory_total_bytes
        else "",
    }
    out.heading("Dry run: nothing was trained")
    for name, text in lines.items():
        if text:
            out.line(f"  {name:<16} {text}")


def _estimate(memory: MemoryEstimate) -> str:
    parts = dataclasses.asdict(memory)
    named = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items() if size)
    return f"about {_gigabytes(memory.total)} ({named})"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
