"""The course of a training run from its history.jsonl, thinned so that any run fits on a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_cli.records.plain import is_finite_number
from finetune_cli.records.training import EvalRecord

Point = tuple[float, float]

SMOOTHING = 20
MAX_POINTS = 240  # more than a chart of this width can show


@dataclass(frozen=True)
class Curves:
    """(update, value) of each training update, thinned to means of neighbours; and the evaluations of one split.

    best: the one whose model was kept, as training decided.
    """

    loss: list[Point]
    learning_rate: list[Point]
    evaluations: list[EvalRecord]
    best: EvalRecord | None
    updates: int


def read_curves(
    history: Iterable[dict[str, Any]], split: str, metrics: Sequence[str], *, best_step: int | None
) -> Curves | None:
    """history: the lines of history.jsonl; None where no update is among them. best_step: the update whose model was
    kept, from run.json."""
    updates: dict[int, dict[str, Any]] = {}
    evaluations: dict[int, EvalRecord] = {}
    for record in history:
        if record["type"] == "train":
            updates[record["step"]] = record
        elif record["split"] == split:
            values = {name: record[name] for name in metrics if is_finite_number(record.get(name))}
            loss = record["loss"] if is_finite_number(record["loss"]) else math.nan
            evaluations[record["step"]] = EvalRecord(record["step"], record["epoch"], split, loss, values)
    if not updates:
        return None
    return Curves(
        loss=_thinned(updates, "loss"),
        learning_rate=_thinned(updates, "learning_rate"),
        evaluations=list(evaluations.values()),
        best=evaluations.get(best_step or 0),
        updates=len(updates),
    )


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Each point as the mean of its neighbours, a SMOOTHING part of all on either side; fewer at the ends."""
    reach = len(points) // SMOOTHING
    parts = [points[max(0, place - reach) : place + reach + 1] for place in range(len(points))]
    return [(step, sum(value for _, value in part) / len(part)) for (step, _), part in zip(points, parts, strict=True)]


def _thinned(updates: dict[int, dict[str, Any]], field: str) -> list[Point]:
    """Means of equally long stretches; an update without a finite value (skipped) is left out."""
    points = [(float(step), record[field]) for step, record in updates.items() if is_finite_number(record[field])]
    width = -(-len(points) // MAX_POINTS) or 1
    stretches = [points[start : start + width] for start in range(0, len(points), width)]
    return [
        (sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part)) for part in stretches
    ]
