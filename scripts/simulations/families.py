"""Families of equal runs, and tests at the smallest difference that is printed.

python -m scripts.simulations.families
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from finetune_cli.evaluation.comparison import mcnemar
from finetune_cli.evaluation.power import holm, smallest_by_mcnemar

LEVEL = 0.95
ALIKE = 0.7  # correlation of the runs' difficulties of a row: runs of one task err on the same rows


def main() -> None:
    print("ten equally good runs, share of 1,000 families with at least one false find")
    for all_pairs in (False, True):
        against = "each with each" if all_pairs else "all against the first"
        print(f"  {against}: {false_finds(runs=10, families=1000, num_rows=408, all_pairs=all_pairs):.3f}", flush=True)
        alone = false_finds(runs=10, families=1000, num_rows=408, all_pairs=all_pairs, adjusted=False)
        print(f"  {against}, not adjusted: {alone:.3f}", flush=True)
    print("share of 1,000 tests that find the smallest difference that is printed")
    for num_rows, disagreements in ((100, 0.2), (408, 0.09), (872, 0.05), (2000, 0.1)):
        share = share_found(num_rows=num_rows, disagreements=disagreements, tests=1000)
        print(f"  {num_rows} rows, {disagreements:.0%} disagreements: {share:.3f}", flush=True)


def false_finds(*, runs: int, families: int, num_rows: int, all_pairs: bool, adjusted: bool = True) -> float:
    """The share of families of equally good runs (accuracy 0.85) with a difference that is called real."""
    generator, found = np.random.default_rng(0), 0
    pairs = list(combinations(range(runs), 2)) if all_pairs else [(0, run) for run in range(1, runs)]
    for _ in range(families):
        hard = np.sqrt(ALIKE) * generator.normal(size=num_rows)
        right = hard + np.sqrt(1 - ALIKE) * generator.normal(size=(runs, num_rows)) < 1.0364  # 85 % of a normal
        p_values = [mcnemar(right[a], right[b]).p_value for a, b in pairs]
        found += min(holm(p_values) if adjusted else p_values) < 1 - LEVEL
    return found / families


def share_found(*, num_rows: int, disagreements: float, tests: int) -> float:
    """The share of tests that find a true difference as large as the smallest one printed for these rows."""
    generator, found = np.random.default_rng(1), 0
    difference = smallest_by_mcnemar(num_rows, disagreements, 1 - LEVEL) or 1.0
    chances = [(disagreements + difference) / 2, (disagreements - difference) / 2, 1 - disagreements]
    for only_b, only_a, _ in generator.multinomial(num_rows, chances, size=tests):
        right_a = np.repeat([True, False], [only_a, only_b])
        found += mcnemar(right_a, ~right_a).p_value < 1 - LEVEL
    return found / tests


if __name__ == "__main__":
    main()
