"""Intervals of metrics that the confusion matrix decides, but of which no share is left: macro averages, Matthews.

The probabilities of the cells are drawn from a Dirichlet distribution, the rows of each cell and a little more. That
little stands for cells in which no row fell yet: a percentile bootstrap cannot see beyond the rows it has (20 rows of
accuracy 0.98: its 95 % interval holds the truth in a third of all test sets).

Dimensions: S samples, K cells, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from finetune_cli.evaluation.confusion import ClassCounts, FloatArray
from finetune_cli.evaluation.proportions import Interval

# Rows that all cells of wrong answers, and all of right ones, have besides those drawn. Half a row in all is Jeffreys'
# prior for the accuracy, half a row a class is one for each class. The first alone is too narrow for few rows with many
# errors or rare classes, the second for few rows with none: the wider end of both is taken.
PRIOR_ROWS = 0.5
MOST_CLASSES_WITH_A_PRIOR = 5  # half a row for each of very many classes would weigh more than the rows
MIN_ROWS = 10
BLOCK_CELLS = 2_000_000

# For a prior, the Dirichlet's parameters (K,), and a function from drawn weights of the cells (S, K) to the counts.
Draw = Callable[[float], tuple[FloatArray, Callable[[FloatArray], ClassCounts]]]


def drawn_intervals(
    metrics: Mapping[str, Callable[[ClassCounts], FloatArray]],
    draw: Draw,
    *,
    num_classes: int,
    samples: int,
    level: float,
    seed: int,
) -> dict[str, Interval]:
    """The interval of each metric. The same seed gives the same interval, whatever other metrics are asked for."""
    ends: dict[str, list[FloatArray]] = {name: [] for name in metrics}
    for prior in (PRIOR_ROWS, PRIOR_ROWS * min(num_classes, MOST_CLASSES_WITH_A_PRIOR)):
        parameters, counts_of = draw(prior)
        generator = np.random.default_rng([seed, 0])
        values: dict[str, list[FloatArray]] = {name: [] for name in metrics}
        for size in _blocks(samples, len(parameters)):
            counts = counts_of(generator.standard_gamma(parameters, size=(size, len(parameters))))
            for name, metric in metrics.items():
                values[name].append(metric(counts))
        for name, parts in values.items():
            ends[name].append(np.quantile(np.concatenate(parts), [(1 - level) / 2, (1 + level) / 2]))
    return {
        name: (float(min(low for low, _ in found)), float(max(high for _, high in found)))
        for name, found in ends.items()
    }


def _blocks(samples: int, width: int) -> Iterator[int]:
    size = max(1, BLOCK_CELLS // width)
    for start in range(0, samples, size):
        yield min(size, samples - start)
