"""The order of rows: which rows each update sees, and which of their pieces each process runs at once.

A piece is a row or a window of one. Letters: N rows, M pieces of one micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

LENGTH_POOL_BATCHES = 50  # updates whose rows are sorted together; the pool transformers' LengthGroupedSampler uses


class MicroBatch(NamedTuple):
    """What one process runs at once: `pieces`, the first `num_valid` of which count, in an update of `update_rows`."""

    pieces: np.ndarray
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


def split_update(
    pieces: np.ndarray,
    widths: np.ndarray,
    *,
    update_rows: int,
    micro_batch_size: int,
    num_processes: int = 1,
    process_index: int = 0,
    max_tokens: int | None = None,
) -> Iterator[MicroBatch]:
    """One process's micro-batches of an update; every process gets equally many, so that collectives stay in step.

    The pieces of a window of M x processes are dealt round, so that each process meets the same lengths. A process
    that has no piece left runs one that does not count (num_valid 0). widths: tokens of each piece once it is padded.
    max_tokens: a micro-batch takes no more of them, unless one piece alone does; the widest pieces come first then.
    """
    if max_tokens is not None:
        order = np.argsort(-widths, kind="stable")
        pieces, widths = pieces[order], widths[order]
    start = 0
    while start < len(pieces):
        fitting = micro_batch_size if max_tokens is None else max(1, max_tokens // int(widths[start]))
        window = min(micro_batch_size, fitting) * num_processes
        mine = pieces[start + process_index : start + window : num_processes]
        yield MicroBatch(mine if len(mine) else pieces[:1], len(mine), update_rows)
        start += window
