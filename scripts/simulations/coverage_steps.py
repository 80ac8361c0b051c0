"""Which cells of scripts/simulations/coverage.py could no interval hold as often as promised?

  python -m scripts.simulations.coverage_steps cells.jsonl

Scores of few rows come in steps. An interval whose ends rise with the score holds the true score for a range of scores:
where no range of them has 93 to 97 % of all test sets (below 50 rows 91 to 98.5 %), no such interval is as promised.
Prints how many of the cells that hold the truth too often or too seldom are of this kind, and which.
"""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from scripts.simulations.coverage_tables import Cell, cells_of, promised
from scripts.simulations.worlds import worlds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--sets", type=int, default=2000)
    options = parser.parse_args()
    outside: dict[tuple[str, float, int], list[Cell]] = defaultdict(list)
    for cell in cells_of([json.loads(line) for line in options.file.read_text().splitlines()]):
        if cell.verdict not in ("held", "no interval"):
            outside[cell.world, cell.accuracy, cell.rows].append(cell)
    counts: Counter[tuple[str, bool]] = Counter()
    for cells in outside.values():
        for cell, possible in zip(cells, can_be_held(cells, options.sets), strict=True):
            counts[cell.verdict, possible] += 1
            if not possible:
                print(f"{cell.world}, accuracy {cell.accuracy}, {cell.rows} rows: {cell.metric} ({cell.held:.1%})")
    for verdict in sorted({verdict for verdict, _ in counts}):
        print(f"{verdict}: {counts[verdict, False]} of {counts[verdict, False] + counts[verdict, True]}")


def can_be_held(cells: list[Cell], sets: int, *, seed: int = 7) -> list[bool]:
    """Whether a range of scores has the promised share of test sets, for cells of one world and number of rows."""
    first = cells[0]
    world = next(world for world in worlds(first.accuracy) if world.name == first.world)
    names = [cell.metric for cell in cells]
    scores: dict[str, list[float]] = {name: [] for name in names}
    for number in range(sets):
        labels, answers = world.draw(first.rows, np.random.default_rng([seed, first.rows, number]))
        for name, value in compute_metrics(names, scored_rows(labels, answers, world.kind)).items():
            scores[name].append(value)
    return [_has_range(np.array(scores[name]), *promised(first.rows)) for name in names]


def _has_range(scores: np.ndarray, low: float, high: float) -> bool:
    _, counts = np.unique(np.round(scores[np.isfinite(scores)], 12), return_counts=True)
    below = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    shares = below[None, :] - below[:, None]
    return bool(((shares >= low) & (shares <= high)).any())


if __name__ == "__main__":
    main()
