"""Does `--fit abstain` keep its promise, and how many rows does it give up?

  python -m scripts.simulations.abstaining

The oracle knows the true share of errors behind every bound, and answers as many rows as the promise allows. Nobody who
has only rows to go by can do that: a bound must not be taken wherever these rows could as well come from a task that
breaks the promise there. `best_possible` is how much of the oracle's rows any procedure with the same promise can keep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from finetune_cli.errors import DataError
from finetune_cli.evaluation.abstaining import fit_abstention
from scripts.simulations.worlds import World, worlds

ROWS_OF_TRUTH = 400_000
LEVEL = 0.9
GROUPS = 200  # of rows with about the same confidence
STEPS = 30  # at which the best possible is computed
DRAWS = 2000
CELLS = [(0.95, 0.05), (0.9, 0.05), (0.85, 0.05), (0.98, 0.01)]


@dataclass(frozen=True)
class Outcome:
    """Shares: of the simulations that break the promise, and that get no bound; of all rows that are answered on
    average (without a bound none); of the oracle's rows that are kept likewise, and that could be kept at best."""

    broken: float
    refused: float
    answered: float
    kept: float
    best_possible: float


def main() -> None:
    print("| accuracy | max error | rows | broken | refused | answered | of an oracle's rows | at best possible |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for accuracy, max_error in CELLS:
        for num_rows in (408, 1000, 2000, 10_000):
            found = promise(accuracy, max_error, num_rows, simulations=1000)
            shares = (found.broken, found.refused, found.answered, found.kept, found.best_possible)
            print(
                f"| {accuracy} | {max_error:.0%} | {num_rows:,} | {' | '.join(f'{one:.1%}' for one in shares)} |",
                flush=True,
            )


def promise(accuracy: float, max_error: float, num_rows: int, *, simulations: int) -> Outcome:
    """Many test sets of a calibrated model of two classes, whose true risk behind every bound is known."""
    world = worlds(accuracy)[0]
    confidence, _ = _answers(world, ROWS_OF_TRUTH, np.random.default_rng(1))
    ordered = np.sort(confidence)[::-1]
    risk = np.cumsum(1 - ordered) / np.arange(1, ROWS_OF_TRUTH + 1)
    oracle = int(np.flatnonzero(risk <= max_error + 1e-4)[-1]) + 1
    generator = np.random.default_rng(2)
    broken, kept = 0, []
    for _ in range(simulations):
        try:
            found = fit_abstention(*_answers(world, num_rows, generator), max_error=max_error, level=LEVEL)
        except DataError:
            kept.append(0.0)
            continue
        answered = int(np.searchsorted(-ordered, -found.below, side="right"))
        broken += answered > oracle
        kept.append(min(1.0, answered / oracle))
    refused, mean, of_oracle = float(np.mean(np.array(kept) == 0)), float(np.mean(kept)), oracle / ROWS_OF_TRUTH
    best = best_possible(1 - ordered, of_oracle, max_error, num_rows)
    return Outcome(broken / simulations, refused, mean * of_oracle, mean, best)


def _answers(world: World, num_rows: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = world.draw(num_rows, generator)
    return scores.max(axis=1), scores.argmax(axis=1) == labels


def best_possible(wrong: np.ndarray, oracle: float, max_error: float, num_rows: int) -> float:
    """The mean share of the oracle's rows that a procedure with this promise keeps at most.

    wrong: the chance of each row to be answered wrongly, the surest first. For each share of the rows there is a task
    much like this one in which answering that share, or more, breaks the promise. There it may happen in one of ten
    cases. How often it then happens in this task, at most, the likelihood ratio says (Neyman and Pearson): the power of
    the best test of the one task against the other.
    """
    truth = np.clip([group.mean() for group in np.array_split(wrong, GROUPS)], 1e-9, 1.0)
    generator = np.random.default_rng(3)
    most = round(oracle * GROUPS)
    counts, chances = np.unique(np.linspace(0, most, STEPS + 1).round().astype(int)), [1.0]
    for groups in counts[1:]:
        other = np.concatenate([_with_mean(truth[:groups], max_error), np.maximum(truth[groups:], max_error)])
        chances.append(_power(truth, np.maximum(other, truth), num_rows, generator))
    chances = list(np.minimum.accumulate(chances))  # whoever answers more answers these rows, too
    return float(np.trapezoid(chances, counts) / most)


def _with_mean(chances: np.ndarray, mean: float) -> np.ndarray:
    """The chances with their odds raised by one factor, so that this is their mean."""
    low, high = 0.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(logit(chances) + middle).mean() < mean else (low, middle)
    return np.asarray(expit(logit(chances) + low))


def _power(truth: np.ndarray, other: np.ndarray, num_rows: int, generator: np.random.Generator) -> float:
    """How often the best test rejects `other` when `truth` holds, if it does so in one of ten cases when not."""
    sizes = np.diff(np.linspace(0, num_rows, GROUPS + 1).astype(int))
    differs = other > truth + 1e-12
    if not differs.any():
        return 1 - LEVEL
    weights = logit(other[differs]) - logit(truth[differs])
    of_truth, of_other = (
        generator.binomial(sizes[differs], chances[differs], size=(DRAWS, differs.sum())) @ weights
        + generator.uniform(0, 1e-9, DRAWS)  # splits ties at random, as the best test does
        for chances in (truth, other)
    )
    return float((of_truth <= np.quantile(of_other, 1 - LEVEL)).mean())


if __name__ == "__main__":
    main()
