"""The order of rows: which rows each update sees, and which of them each process runs at once.

Letters: N rows, M rows of one micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

LENGTH_POOL_BATCHES = 50  # updates whose rows are sorted together; the pool transformers' LengthGroupedSampler uses


class MicroBatch(NamedTuple):
    """What one process runs at once: `rows`, the first `num_valid` of which count, in an update of `update_rows`."""

    rows: np.ndarray
    num_valid: int
    update_rows: int


class RowOrder:
    """Which rows each update sees: a function of (seed, epoch) and the lengths alone.

    lengths: tokens of each row (N,). batch_size: rows of one update over all processes. batching: "random" shuffles
    rows; "length" shuffles, sorts pools of 50 updates by length, cuts them into updates and shuffles those, so
    that an update's rows have similar lengths while every row still meets random company. The last, short update of an
    epoch is made of random rows in both, so that no length is favoured.
    """

    def __init__(self, lengths: np.ndarray, *, batch_size: int, seed: int, batching: str = "length") -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.batching = batching
        self.updates_per_epoch = -(-len(lengths) // batch_size)
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The rows of each update of an epoch (counted from 0); every row occurs exactly once."""
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._draw(epoch))
        return self._epoch[1]

    def update(self, step: int) -> np.ndarray:
        """The rows of update `step`, counted from 1 over the whole run."""
        epoch, index = divmod(step - 1, self.updates_per_epoch)
        return self.epoch(epoch)[index]

    def _draw(self, epoch: int) -> list[np.ndarray]:
        generator = np.random.default_rng([self.seed, epoch])
        order = generator.permutation(len(self.lengths))
        full = len(order) - len(order) % self.batch_size
        rows, rest = order[:full], order[full:]
        if self.batching == "length":
            pool = LENGTH_POOL_BATCHES * self.batch_size
            parts = [rows[start : start + pool] for start in range(0, full, pool)]
            rows = np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in parts] or [rows])
        updates = rows.reshape(-1, self.batch_size)
        if self.batching == "length":
            updates = generator.permutation(updates)
        return [*updates, rest] if len(rest) else list(updates)

    def padding_share(self) -> float:
        """Share of the first epoch's token slots that padding takes, when an update is padded to its longest row."""
        updates = self.epoch(0)
        sizes = np.array([len(rows) for rows in updates])
        longest = np.maximum.reduceat(self.lengths[np.concatenate(updates)], np.cumsum(sizes) - sizes)
        return 1 - float(self.lengths.sum()) / float((longest * sizes).sum())


def micro_batches_per_update(batch_size: int, micro_batch_size: int, num_processes: int) -> int:
    """How many micro-batches each process accumulates for one full update."""
    return -(-batch_size // (micro_batch_size * num_processes))


def split_update(
    rows: np.ndarray, *, micro_batch_size: int, num_processes: int, process_index: int
) -> Iterator[MicroBatch]:
    """One process's micro-batches of an update; every process gets equally many, so that collectives stay in step.

    The rows of a window of M x processes are dealt round, so that each process meets the same lengths. A process
    that has no row left runs one row that does not count (num_valid 0).
    """
    window = micro_batch_size * num_processes
    for start in range(0, len(rows), window):
        mine = rows[start + process_index : start + window : num_processes]
        yield MicroBatch(mine if len(mine) else rows[:1], len(mine), len(rows))
