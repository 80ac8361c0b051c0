"""Intervals of metrics that the confusion matrix decides, but of which no share is left: macro averages, Matthews.

The probabilities of the cells are drawn from a Dirichlet distribution, the rows of each cell and a little more. That
little stands for cells in which no row fell yet: a percentile bootstrap cannot see beyond the rows it has (20 rows of
accuracy 0.98: its 95 % interval holds the truth in a third of all test sets).

Dimensions: S samples, K cells, C classes, M metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from finetune_cli.evaluation.confusion import ClassCounts, FloatArray
from finetune_cli.evaluation.intervals.shares import Interval, upper_end, upper_tails
from finetune_cli.evaluation.uncertainty import blocks
from finetune_cli.records.resampling import Resampling
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
    draw_perfect: Draw,
    *,
    num_rows: int,
    num_classes: int,
    resampling: Resampling,
) -> dict[str, Interval]:
    """The interval of each metric. The same seed gives the same interval, whatever other metrics are asked for.

    draw_perfect: as `draw`, had all answers been right.
    """
    priors = (PRIOR_ROWS, PRIOR_ROWS * min(num_classes, MOST_CLASSES_WITH_A_PRIOR))

    def ends(draw: Draw) -> FloatArray:
        of_priors = [
            _ends(metrics, *draw(prior), num_rows=num_rows, num_classes=num_classes, resampling=resampling)
            for prior in priors
        ]
        lows, *highs = np.stack(of_priors, axis=1)
        return np.stack([lows.min(axis=0), *(high.max(axis=0) for high in highs)])

    lows, highs, near_the_best = ends(draw)
    if (near_the_best < highs).any():  # never of few rows
        lows_of_perfect = ends(draw_perfect)[0]
        highs = np.array(list(map(upper_end, highs, near_the_best, lows_of_perfect)))
    return {name: (float(low), float(high)) for name, low, high in zip(metrics, lows, highs, strict=True)}


def _ends(
    metrics: Mapping[str, Callable[[ClassCounts], FloatArray]],
    parameters: FloatArray,
    counts_of: Callable[[FloatArray], ClassCounts],
    *,
    num_rows: int,
    num_classes: int,
    resampling: Resampling,
) -> FloatArray:
    """(3, M): the lower ends of the metrics, the usual upper ones, and those near the best score.

    A class's spread shows in one row less than it has. Averages that weigh classes alike are wider by that much, as if
    each class had one row less.
    """
    generator = np.random.default_rng([resampling.seed, 0])
    values = np.empty((len(metrics), resampling.samples))
    for block in blocks(resampling.samples, len(parameters), BLOCK_CELLS):
        counts = counts_of(generator.standard_gamma(parameters, size=(block.stop - block.start, len(parameters))))
        for number, metric in enumerate(metrics.values()):
            values[number, block] = metric(counts)
    usual, near_the_best = upper_tails(resampling.level, num_rows)
    middle, *ends = np.quantile(values, [0.5, usual, 1 - usual, 1 - near_the_best], axis=1)
    wider = [1.0 if name == WEIGHED_BY_ROWS else math.sqrt(1 + num_classes / num_rows) for name in metrics]
    bounds = np.array([METRICS[name].span for name in metrics], np.float64).T
    return np.clip(middle + wider * (np.stack(ends) - middle), *bounds)
