"""What the summaries of several runs, such as those of several seeds, have in common."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune_cli.display.progress import duration
from finetune_cli.display.terminal import Output
from finetune_cli.records.training import SeedsReport, SplitSummary, TrainReport
from finetune_cli.runs.run_dir import MEMBERS, member_number


def score_table(out: Output, kind: str, split: SplitSummary, shown: Sequence[int] = ()) -> None:
    """The scores of a split with mean and spread, those of the runs in `shown` or else the ends of all, and which runs
    collapsed."""
    header = [f"{kind} {number}" for number in shown] or ["lowest", "highest"]
    rows = []
    for name, score in split.metrics.items():
        values = [score.values[number] for number in shown] or [min(score.values.values()), max(score.values.values())]
        mean = f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"
        rows.append([name, mean, *(f"{value:.3f}" for value in (score.sd, *values))])
    out.table(["score", "mean", "sd", *header], rows)
    for number, name in split.collapsed.items():
        out.line(
            f"  Collapsed: {kind} {number} gives every row the class {name!r}, as a model does that has learned "
            "nothing."
        )


def run_lines(
    out: Output, kind: str, runs: Mapping[Any, TrainReport | SeedsReport], failed: Mapping[Any, str], *, count: int
) -> None:
    """Which of `count` runs failed, how long the others took, and which were there before."""
    for number, error in failed.items():
        out.line(f"{kind.capitalize()} {member_number(number)} failed: {error}")
    if not runs:
        return
    seconds = sum(run.seconds for run in runs.values())
    out.line(f"{len(runs)} of {count} {MEMBERS[kind]} trained, {duration(seconds)} of training in all.")
    if before := [member_number(number) for number, run in runs.items() if run.already_finished]:
        out.line(f"Finished before, and not trained again: {kind} {', '.join(before)}.")
    out.line()


def closing(
    out: Output,
    places: Mapping[str, object],
    commands: Sequence[str],
    *,
    width: int = 10,
    finished: Path | None = None,
) -> None:
    """Where things are, and what to type next. width: of the places' names. finished: where nothing is left to go on
    with, so that the checkpoints below it can go."""
    for name, place in places.items():
        out.line(f"  {name:<{width}} {place}")
    if finished is not None:
        out.line(f"All is trained, so the checkpoints can go: rm -r {quoted(finished)}/*/checkpoints")
    out.line()
    out.heading("Next")
    for command in commands:
        out.line(f"  {command}")


def quoted(path: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))
