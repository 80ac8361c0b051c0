"""Simulated coverage as tables to read: how many cells hold what is promised, which do not, and all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FEW_ROWS, PROMISED, PROMISED_OF_FEW = 50, (0.93, 0.97), (0.91, 0.985)
FEWEST_GIVEN = 0.05  # of the test sets: a cell with fewer intervals counts as one without
VERDICTS = ("held", "low", "low?", "high", "high?", "no interval")


@dataclass(frozen=True)
class Cell:
    """One metric on test sets of one kind: given, the share that has an interval; held, the share of these that holds
    the truth; above and below, the shares whose interval lies there."""

    world: str
    accuracy: float
    rows: int
    metric: str
    given: float
    held: float
    above: float
    below: float
    error: float
    width: float
    earlier_width: float

    @property
    def verdict(self) -> str:
        """With "?" where the simulation cannot tell: not two of its standard errors outside."""
        low, high = promised(self.rows)
        if self.given < FEWEST_GIVEN:
            return "no interval"
        if self.held < low:
            return "low?" if self.held + 2 * self.error >= low else "low"
        if self.held > high:
            return "high?" if self.held - 2 * self.error <= high else "high"
        return "held"


def promised(rows: int) -> tuple[float, float]:
    """How often intervals on so many rows should hold the truth: at least and at most."""
    return PROMISED_OF_FEW if rows < FEW_ROWS else PROMISED


def cells_of(lines: Sequence[Mapping[str, Any]]) -> Iterator[Cell]:
    for line in lines:
        for metric, found in line["metrics"].items():
            given = found.get("given", 0.0)
            above, below = (found.get(side, 0.0) / max(1.0, given) for side in ("above", "below"))
            held = 1 - above - below
            yield Cell(
                line["world"],
                line["accuracy"],
                line["rows"],
                metric,
                given / line["sets"],
                held,
                above,
                below,
                math.sqrt(held * (1 - held) / max(1.0, given)),
                found["width"],
                found["earlier_width"],
            )


def tables(lines: Sequence[Mapping[str, Any]]) -> str:
    cells = list(cells_of(lines))
    outside = [cell for cell in cells if cell.verdict not in ("held", "no interval")]
    parts = [_counts(cells), "Outside:\n\n" + _rows(outside)]
    for world in dict.fromkeys(cell.world for cell in cells):
        parts.append(f"{world}:\n\n" + _grid([cell for cell in cells if cell.world == world]))
    return "\n\n".join(parts)


def _counts(cells: Sequence[Cell]) -> str:
    lines = [f"| rows | cells | {' | '.join(VERDICTS)} |", "| ---: |" + " ---: |" * (1 + len(VERDICTS))]
    for rows in sorted({cell.rows for cell in cells}):
        found = Counter(cell.verdict for cell in cells if cell.rows == rows)
        lines.append(f"| {rows} | {sum(found.values())} | {' | '.join(str(found[one]) for one in VERDICTS)} |")
    return "\n".join(lines)


def _rows(cells: Sequence[Cell]) -> str:
    head = "| task | accuracy | rows | metric | held | too high | too low | given | width | was | |"
    lines = [head, "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for one in sorted(cells, key=lambda cell: (cell.verdict, cell.metric, cell.world, cell.rows)):
        shares = [f"{100 * share:.1f}" for share in (one.held, one.above, one.below, one.given)]
        lines.append(
            f"| {one.world} | {one.accuracy} | {one.rows} | {one.metric} | {' | '.join(shares)} | {one.width:.3f} | "
            f"{one.earlier_width:.3f} | {one.verdict} |"
        )
    return "\n".join(lines)


def _grid(cells: Sequence[Cell]) -> str:
    """Held, width, and the earlier width, by metric and rows below each other and accuracies beside each other."""
    accuracies = sorted({cell.accuracy for cell in cells})
    lines = [f"| metric | rows | {' | '.join(map(str, accuracies))} |", "| --- | ---: |" + " --- |" * len(accuracies)]
    known = {(cell.metric, cell.rows, cell.accuracy): cell for cell in cells}
    for metric in dict.fromkeys(cell.metric for cell in cells):
        for rows in sorted({cell.rows for cell in cells}):
            found = [known.get((metric, rows, accuracy)) for accuracy in accuracies]
            lines.append(f"| {metric} | {rows} | {' | '.join(_in_words(one) for one in found)} |")
    return "\n".join(lines)


def _in_words(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.given < FEWEST_GIVEN:
        return "too few rows"
    part = "" if cell.given > 0.995 else f", in {100 * cell.given:.0f} %"
    return f"{100 * cell.held:.1f} ({cell.width:.3f}, was {cell.earlier_width:.3f}){part}"
