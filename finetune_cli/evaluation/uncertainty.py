"""Scores of resampled rows: what the comparison of runs and metrics of the `evaluate` library take.

A resample draws N rows with replacement. All that a metric needs to know of it is how often each row was drawn, so
resamples are rows of a matrix of counts and a metric scores a block of them at once. For metrics of the confusion
matrix the counts are those of its cells: drawing cells by a multinomial with their frequencies is the same experiment,
and costs nothing that grows with N.

Dimensions: N rows, R resamples in a block, S resamples in all, M sets of scores for the same rows, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.kinds import CLASS_KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.metrics import check_names, weighted_metric
from finetune_cli.evaluation.scored_rows import ScoredRows
from finetune_cli.records.resampling import Resampling

BLOCK_CELLS = 200_000  # counts in a block, 1.6 MB: twice as fast as blocks that leave the processor's cache

Block = tuple[slice, FloatArray]


def bootstrap_values(names: Sequence[str], sets: Sequence[ScoredRows], resampling: Resampling) -> dict[str, FloatArray]:
    """Each metric of M sets of scores, float64 (M, S): column s of every set and metric family is one resample of rows.

    sets: of the same rows. They are scored on the same resamples, so differences between them are paired.
    """
    for rows in sets:
        check_names(names, rows)
    values = {name: np.empty((len(sets), resampling.samples)) for name in names}
    of_counts = sets[0].task.count_metrics
    if by_cell := {name: values[name] for name in names if name in of_counts}:
        _score_by_cell(by_cell, sets, resampling)
    if by_row := [name for name in names if name not in of_counts]:
        metrics = {name: [weighted_metric(name, rows) for rows in sets] for name in by_row}
        for block, counts in _row_counts(len(sets[0].labels), resampling):
            for name, of_sets in metrics.items():
                for m, metric in enumerate(of_sets):
                    values[name][m, block] = metric(counts)
    return values


def percentile_interval(values: FloatArray, level: float) -> tuple[float, float]:
    """The middle `level` of the values (S,), nan left out."""
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _score_by_cell(values: dict[str, FloatArray], sets: Sequence[ScoredRows], resampling: Resampling) -> None:
    """Fill in the metrics of the confusion matrix. A cell is one combination of label and every set's prediction; with
    several labels a row, of the sets of labels."""
    task, labels = CLASS_KINDS[sets[0].kind], sets[0].labels
    firsts, cell_counts = task.cells(labels, [rows.answers for rows in sets])
    order = np.argsort(firsts)  # which set is named first must not change what is drawn
    firsts, cell_counts = firsts[order], cell_counts[order]
    counters = [task.counter(labels[firsts], rows.answers[firsts], rows.num_classes) for rows in sets]
    for block, counts in _cell_counts(cell_counts, resampling):
        for m, counter in enumerate(counters):
            class_counts = counter(counts)
            for name, target in values.items():
                target[m, block] = task.count_metrics[name](class_counts)


def blocks(samples: int, width: int, most_cells: int) -> Iterator[slice]:
    """Parts of the samples that have so many cells at most, each sample of this width."""
    size = max(1, most_cells // width)
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))


def _cell_counts(cell_counts: Array, resampling: Resampling) -> Iterator[Block]:
    total, generator = cell_counts.sum(), np.random.default_rng([resampling.seed, 0])
    for block in blocks(resampling.samples, len(cell_counts), BLOCK_CELLS):
        drawn = generator.multinomial(total, cell_counts / total, size=block.stop - block.start)
        yield block, drawn.astype(np.float64)


def _row_counts(num_rows: int, resampling: Resampling) -> Iterator[Block]:
    """Counting uniform draws is several times faster here than `multinomial`, which draws a binomial per row."""
    generator = np.random.default_rng([resampling.seed, 1])
    for block in blocks(resampling.samples, num_rows, BLOCK_CELLS):
        counts = np.empty((block.stop - block.start, num_rows))
        for row in counts:
            row[:] = np.bincount(generator.integers(num_rows, size=num_rows), minlength=num_rows)
        yield block, counts
