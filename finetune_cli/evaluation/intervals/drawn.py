"""Intervals of metrics that the confusion matrix decides, but of which no share is left: macro averages, Matthews.

The probabilities of the cells are drawn from a Dirichlet distribution, the rows of each cell and a little more. That
little stands for cells in which no row fell yet: a percentile bootstrap cannot see beyond the rows it has (20 rows of
accuracy 0.98: its 95 % interval holds the truth in a third of all test sets).

Dimensions: S samples, K cells, C classes, M metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from finetune_cli.evaluation.confusion import ClassCounts, FloatArray
from finetune_cli.evaluation.intervals.shares import Interval
from finetune_cli.tasks import METRICS

# Rows that all cells of wrong answers, and all of right ones, have besides those drawn. Half a row in all is Jeffreys'
# prior for the accuracy, half a row a class is one for each class. The first alone is too narrow for few rows with many
# errors or rare classes, the second for few rows with none: the wider end of both is taken.
PRIOR_ROWS = 0.5
MOST_CLASSES_WITH_A_PRIOR = 5  # half a row for each of very many classes would weigh more than the rows
MIN_ROWS = 10
BLOCK_CELLS = 2_000_000
WEIGHED_BY_ROWS = "f1_weighted"  # the rest weigh each class alike, however few its rows

# For a prior, the Dirichlet's parameters (K,), and a function from drawn weights of the cells (S, K) to the counts.
Draw = Callable[[float], tuple[FloatArray, Callable[[FloatArray], ClassCounts]]]


def drawn_intervals(
    metrics: Mapping[str, Callable[[ClassCounts], FloatArray]],
    draw: Draw,
    *,
    num_rows: int,
    num_classes: int,
    samples: int,
    level: float,
    seed: int,
) -> dict[str, Interval]:
    """The interval of each metric. The same seed gives the same interval, whatever other metrics are asked for."""
    ends = np.stack(
        [
            _ends(
                metrics,
                *draw(prior),
                num_rows=num_rows,
                num_classes=num_classes,
                samples=samples,
                level=level,
                seed=seed,
            )
            for prior in (PRIOR_ROWS, PRIOR_ROWS * min(num_classes, MOST_CLASSES_WITH_A_PRIOR))
        ]
    )
    lows, highs = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
    return {name: (float(low), float(high)) for name, low, high in zip(metrics, lows, highs, strict=True)}


def _ends(
    metrics: Mapping[str, Callable[[ClassCounts], FloatArray]],
    parameters: FloatArray,
    counts_of: Callable[[FloatArray], ClassCounts],
    *,
    num_rows: int,
    num_classes: int,
    samples: int,
    level: float,
    seed: int,
) -> FloatArray:
    """(2, M): the lower ends of the metrics, and the upper ones.

    A class's spread shows in one row less than it has. Averages that weigh classes alike are wider by that much, as if
    each class had one row less.
    """
    generator = np.random.default_rng([seed, 0])
    values = np.empty((len(metrics), samples))
    for block in _blocks(samples, len(parameters)):
        counts = counts_of(generator.standard_gamma(parameters, size=(block.stop - block.start, len(parameters))))
        for number, metric in enumerate(metrics.values()):
            values[number, block] = metric(counts)
    low, middle, high = np.quantile(values, [(1 - level) / 2, 0.5, (1 + level) / 2], axis=1)
    wider = [1.0 if name == WEIGHED_BY_ROWS else math.sqrt(1 + num_classes / num_rows) for name in metrics]
    bounds = np.array([METRICS[name].span for name in metrics], np.float64).T
    return np.clip([middle + wider * (low - middle), middle + wider * (high - middle)], *bounds)


def _blocks(samples: int, width: int) -> Iterator[slice]:
    size = max(1, BLOCK_CELLS // width)
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))
