"""How often do 95 % intervals hold the true score? A table over sizes, accuracies, tasks and metrics.

  python -m scripts.simulations.coverage                       2,000 test sets a cell; about an hour
  python -m scripts.simulations.coverage --sets 200 --rows 10 50

Each cell: per cent of the intervals that hold the truth, their mean width, the width of the percentile bootstrap that
earlier versions had, and in brackets per cent of the test sets that have no interval: too few rows.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np

from finetune_cli.evaluation.intervals import score_intervals
from finetune_cli.evaluation.uncertainty import bootstrap_values, percentile_interval
from scripts.simulations.worlds import World, worlds

LEVEL = 0.95
ROWS_OF_TRUTH = 2_000_000
SETS_OF_BOOTSTRAP = 50  # of which the earlier width is the mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 20, 50, 100, 408, 2000])
    parser.add_argument("--accuracy", type=float, nargs="+", default=[0.6, 0.9, 0.98, 0.995])
    parser.add_argument("--world", nargs="+", help="such as five or 'two 9:1'; default: all")
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    for accuracy in options.accuracy:
        for world in worlds(accuracy):
            if options.world and world.name not in options.world:
                continue
            truth = world.truth(ROWS_OF_TRUTH)
            for n in options.rows:
                print(f"{world.name}, {n} rows, accuracy {accuracy}", flush=True)
                for line in coverage(world, truth, n, sets=options.sets, samples=options.samples):
                    print(f"  {line}", flush=True)


def coverage(world: World, truth: dict[str, float], n: int, *, sets: int, samples: int) -> list[str]:
    names = list(truth)
    held: dict[str, list[bool]] = defaultdict(list)
    widths: dict[str, list[float]] = defaultdict(list)
    earlier: dict[str, list[float]] = defaultdict(list)
    for number in range(sets):
        labels, scores = world.draw(n, np.random.default_rng([n, number, round(1000 * world.accuracy)]))
        common = {"labels": labels, "kind": world.kind, "seed": number}
        found = score_intervals(names, scores=scores, samples=samples, level=LEVEL, **common)
        for name, interval in found.items():
            if interval is not None:
                held[name].append(interval[0] <= truth[name] <= interval[1])
                widths[name].append(interval[1] - interval[0])
        if number < min(sets, SETS_OF_BOOTSTRAP):
            drawn = bootstrap_values(names, score_sets=[scores], samples=200, **common)
            for name in names:
                low, high = percentile_interval(drawn[name][0], LEVEL)
                earlier[name].append(high - low)
    return [
        f"{name:18} true {truth[name]:.4f}  held {_share(held[name])}  width {_mean(widths[name])} "
        f"(was {_mean(earlier[name])})  [{100 * (1 - len(held[name]) / sets):.0f} %]"
        for name in names
    ]


def _share(values: list[bool]) -> str:
    return f"{100 * np.mean(values):5.1f}" if values else "    -"


def _mean(values: list[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    return f"{np.mean(known):.3f}" if known else "-"


if __name__ == "__main__":
    main()
