"""How often do 95 % intervals hold the true score? Over sizes, accuracies, tasks and metrics.

  python -m scripts.simulations.coverage cells.jsonl                 2,000 test sets a cell; about half an hour
  python -m scripts.simulations.coverage cells.jsonl --sets 200 --rows 10 50 --world five
  python -m scripts.simulations.coverage cells.jsonl --table         what the file has, as tables

The file takes one line a cell. Cells that it has already are left out, so that a stopped call goes on.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from finetune_cli.evaluation.confusion import confusion_matrix
from finetune_cli.evaluation.intervals.by_family import score_intervals
from finetune_cli.evaluation.intervals.shares import Interval
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.evaluation.uncertainty import bootstrap_values, percentile_interval
from finetune_cli.records.resampling import Resampling
from scripts.simulations.coverage_tables import tables
from scripts.simulations.worlds import World, worlds

LEVEL = 0.95
ROWS_OF_TRUTH = 1_000_000
SETS_OF_BOOTSTRAP = 50  # of which the earlier width is the mean
SIZES, ACCURACIES = (10, 20, 50, 100, 408, 2000), (0.6, 0.9, 0.98, 0.995)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--accuracy", type=float, nargs="+", default=ACCURACIES)
    parser.add_argument("--world", nargs="+", help="such as five or 'two 9:1'; default: all")
    parser.add_argument("--metric", nargs="+", help="default: all")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument(
        "--seed", type=int, default=3, help="of the test sets; 0, 1, 2, 11 and 12 were used in development"
    )
    parser.add_argument("--table", action="store_true", help="simulate nothing")
    options = parser.parse_args()
    done = [json.loads(line) for line in options.file.read_text().splitlines()] if options.file.exists() else []
    if options.table:
        print(tables(done))
        return
    known = {(cell["world"], cell["accuracy"], cell["rows"]) for cell in done}
    with options.file.open("a") as file:
        for cell in _cells(options, known):
            print(json.dumps(cell), file=file, flush=True)


def _cells(options: argparse.Namespace, known: set[tuple[str, float, int]]) -> Iterator[dict[str, Any]]:
    for accuracy in options.accuracy:
        for world in worlds(accuracy):
            sizes = [n for n in options.rows if (world.name, accuracy, n) not in known]
            if not sizes or (options.world and world.name not in options.world):
                continue
            truth = world.truth(ROWS_OF_TRUTH)
            if options.metric:
                truth = {name: value for name, value in truth.items() if name in options.metric}
            for n in sizes:
                found = coverage(world, truth, n, sets=options.sets, samples=options.samples, seed=options.seed)
                yield {"world": world.name, "accuracy": accuracy, "rows": n, "sets": options.sets, "metrics": found}


def coverage(
    world: World, truth: dict[str, float], n: int, *, sets: int, samples: int, seed: int
) -> dict[str, dict[str, float]]:
    """For each metric: how many test sets have an interval (`given`), how many of these lie above the true score or
    below it, their mean width, and that of the percentile bootstrap that earlier versions had."""
    found: dict[str, dict[str, float]] = {name: defaultdict(float, truth=value) for name, value in truth.items()}
    intervals_of = _Intervals(world, list(truth), samples)
    for number in range(sets):
        labels, scores = world.draw(n, np.random.default_rng([seed, n, number, round(1000 * world.accuracy)]))
        for name, interval in intervals_of(labels, scores).items():
            if interval is not None:
                found[name]["given"] += 1
                found[name]["above"] += interval[0] > truth[name]
                found[name]["below"] += interval[1] < truth[name]
                found[name]["width"] += interval[1] - interval[0]
        if number < SETS_OF_BOOTSTRAP:
            rows = scored_rows(labels, scores, world.kind)
            drawn = bootstrap_values(list(truth), [rows], Resampling(200, seed=number))
            for name in truth:
                low, high = percentile_interval(drawn[name][0], LEVEL)
                if np.isfinite(high - low):
                    found[name]["bootstrapped"] += 1
                    found[name]["earlier_width"] += high - low
    for one in found.values():
        one["width"] /= max(1.0, one["given"])
        one["earlier_width"] /= max(1.0, one["bootstrapped"])
    return {name: dict(one) for name, one in found.items()}


class _Intervals:
    """Of test sets from one world. With one class a row, the confusion matrix decides most metrics, and few rows have
    few matrices: those intervals are kept, drawn with a seed of each matrix."""

    def __init__(self, world: World, names: Sequence[str], samples: int) -> None:
        self.world, self.samples = world, samples
        by_matrix = KINDS[world.kind].count_metrics if world.kind == "classification" else {}
        self.of_matrix = [name for name in names if name in by_matrix]
        self.of_rows = [name for name in names if name not in by_matrix]
        self.known: dict[bytes, dict[str, Interval | None]] = {}

    def __call__(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, Interval | None]:
        rows = self._scored(self.of_rows, labels, scores, len(self.known))
        if not self.of_matrix:
            return rows
        matrix = confusion_matrix(labels, scores.argmax(axis=1), self.world.num_classes).tobytes()
        if matrix not in self.known:
            self.known[matrix] = self._scored(self.of_matrix, labels, scores, crc32(matrix))
        return rows | self.known[matrix]

    def _scored(
        self, names: Sequence[str], labels: np.ndarray, scores: np.ndarray, seed: int
    ) -> dict[str, Interval | None]:
        rows = scored_rows(labels, scores, self.world.kind)
        return score_intervals(names, rows, Resampling(self.samples, LEVEL, seed))


if __name__ == "__main__":
    main()
