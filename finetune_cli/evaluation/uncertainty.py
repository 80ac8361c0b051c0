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
from finetune_cli.evaluation.kinds import CLASS_KINDS, KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.metrics import check_names, check_scored_rows, weighted_metric
from finetune_cli.tasks import Kind

BLOCK_CELLS = 200_000  # counts in a block, 1.6 MB: twice as fast as blocks that leave the processor's cache

Block = tuple[slice, FloatArray]


def bootstrap_values(
    names: Sequence[str], *, labels: Array, score_sets: Sequence[Array], kind: Kind, samples: int, seed: int
) -> dict[str, FloatArray]:
    """Each metric of M sets of scores, float64 (M, S): column s of every set and metric family is one resample of rows.

    The sets are scored on the same resamples, so differences between them are paired.
    """
    checked = [check_scored_rows(labels, scores, kind=kind) for scores in score_sets]
    labels, sets = checked[0][0], [scores for _, scores in checked]
    for scores in sets:
        check_names(names, scores, kind=kind)
    values = {name: np.empty((len(sets), samples)) for name in names}
    by_cell = [name for name in names if name in KINDS[kind].count_metrics]
    by_row = [name for name in names if name not in KINDS[kind].count_metrics]
    if by_cell:
        _score_by_cell({name: values[name] for name in by_cell}, labels, sets, kind, seed)
    if by_row:
        metrics = {
            name: [weighted_metric(name, labels=labels, scores=scores, kind=kind) for scores in sets] for name in by_row
        }
        for block, counts in _row_counts(len(labels), samples, np.random.default_rng([seed, 1])):
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


def _score_by_cell(
    values: dict[str, FloatArray], labels: Array, sets: Sequence[FloatArray], kind: Kind, seed: int
) -> None:
    """Fill in the metrics of the confusion matrix. A cell is one combination of label and every set's prediction; with
    several labels a row, of the sets of labels."""
    task = CLASS_KINDS[kind]
    answers = [task.answers(scores) for scores in sets]
    firsts, cell_counts = task.cells(labels, answers)
    order = np.argsort(firsts)  # which set is named first must not change what is drawn
    firsts, cell_counts = firsts[order], cell_counts[order]
    counters = [
        task.counter(labels[firsts], of_set[firsts], scores.shape[1])
        for of_set, scores in zip(answers, sets, strict=True)
    ]
    samples = next(iter(values.values())).shape[1]
    for block, counts in _cell_counts(cell_counts, samples, np.random.default_rng([seed, 0])):
        for m, counter in enumerate(counters):
            class_counts = counter(counts)
            for name, target in values.items():
                target[m, block] = task.count_metrics[name](class_counts)


def _blocks(width: int, samples: int) -> Iterator[slice]:
    size = max(1, BLOCK_CELLS // width)
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))


def _cell_counts(cell_counts: Array, samples: int, generator: np.random.Generator) -> Iterator[Block]:
    total = cell_counts.sum()
    for block in _blocks(len(cell_counts), samples):
        drawn = generator.multinomial(total, cell_counts / total, size=block.stop - block.start)
        yield block, drawn.astype(np.float64)


def _row_counts(num_rows: int, samples: int, generator: np.random.Generator) -> Iterator[Block]:
    """Counting uniform draws is several times faster here than `multinomial`, which draws a binomial per row."""
    for block in _blocks(num_rows, samples):
        counts = np.empty((block.stop - block.start, num_rows))
        for row in counts:
            row[:] = np.bincount(generator.integers(num_rows, size=num_rows), minlength=num_rows)
        yield block, counts
