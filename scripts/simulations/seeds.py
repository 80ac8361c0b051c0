"""Does the interval of a mean over seeds hold the true mean, over all seeds and all rows? As a table.

  python -m scripts.simulations.seeds

A setting is trained with some seeds and scored on the same rows. How good a seed's model truly is spreads around 0.85;
its errors go together with those of the other seeds (a Gaussian difficulty of each row; `rho` is the share that all
seeds have in common). Two intervals are compared: of seeds and rows together, and of the seeds alone, as earlier
versions had it.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
from scipy.special import ndtri

from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.evaluation.seed_summary import row_variances, summarise_seeds
from finetune_cli.records.resampling import Resampling

ACCURACY, LEVEL = 0.85, 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=1000, help="of each kind")
    options = parser.parse_args()
    print("| seeds | rows | spread of seeds | rho | metric | held | width | held by seeds alone |")
    print("| ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |")
    for seeds, rows, spread, rho in product((3, 5, 10), (100, 408, 2000), (0.0, 0.01, 0.02), (0.5, 0.8)):
        metric = "accuracy" if rho == 0.8 else "f1"
        held, width, alone = coverage(seeds, rows, spread, rho, metric, settings=options.settings)
        kind = f"{seeds} | {rows:,} | {spread} | {rho} | {metric}"
        print(f"| {kind} | {100 * held:.1f} | {width:.3f} | {100 * alone:.1f} |", flush=True)


def coverage(
    seeds: int, rows: int, spread: float, rho: float, metric: str, *, settings: int
) -> tuple[float, float, float]:
    """How often the interval holds the truth, how wide it is, and how often that of the seeds alone does."""
    generator = np.random.default_rng([3, seeds, rows, round(1000 * spread), round(100 * rho)])
    found = [_setting(seeds, rows, spread, rho, metric, generator) for _ in range(settings)]
    held, width, alone = np.mean(found, axis=0)
    return float(held), float(width), float(alone)


def _setting(
    seeds: int, rows: int, spread: float, rho: float, metric: str, generator: np.random.Generator
) -> tuple[bool, float, bool]:
    labels = generator.integers(0, 2, rows)
    accuracies = ACCURACY + spread * generator.standard_normal(seeds)
    shared, own = generator.standard_normal(rows), generator.standard_normal((seeds, rows))
    right = np.sqrt(rho) * shared + np.sqrt(1 - rho) * own < ndtri(accuracies)[:, None]
    scores = [np.eye(2)[np.where(of_seed, labels, 1 - labels)] for of_seed in right]
    runs = [scored_rows(labels, of_seed, "classification") for of_seed in scores]
    values = [compute_metrics([metric], run)[metric] for run in runs]
    seed = int(generator.integers(2**31))
    of_rows = row_variances([metric], runs, Resampling(200, seed=seed))[metric]
    both, alone = (summarise_seeds(values, level=LEVEL, row_variance=variance) for variance in (of_rows, 0.0))
    truth = ACCURACY  # of F1, too: two classes alike, each answered rightly with the same probability
    return both.low <= truth <= both.high, both.high - both.low, alone.low <= truth <= alone.high


if __name__ == "__main__":
    main()
