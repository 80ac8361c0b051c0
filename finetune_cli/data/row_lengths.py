"""How many tokens the rows of a split have, and how many of them are cut off. C classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HISTOGRAM_BINS = 16
QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
USUAL_SHARE = 0.95  # of the rows are of usual length


class RowLengths:
    """Counts rows by their tokens as they stream by. max_length: tokens kept of a row."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.counts = np.zeros(max_length + 2, np.int64)  # how many rows have 0, 1, 2 ... tokens before they are cut
        self.num_cut = self._num_lost = 0
        self._of_codes = np.zeros((0, 2), np.int64)  # all and lost tokens of the rows with each label code

    def add(self, true_lengths: np.ndarray, kept_lengths: np.ndarray, codes: np.ndarray | None) -> None:
        """Some more rows. codes: whole numbers from 0, one for each label or set of labels; None: no classes."""
        self.counts = _grown(self.counts, int(true_lengths.max()) + 1)
        self.counts += np.bincount(true_lengths, minlength=len(self.counts))
        lost = true_lengths - kept_lengths
        self.num_cut += int(np.count_nonzero(lost))
        self._num_lost += int(lost.sum())
        if codes is not None:
            self._of_codes = _grown(self._of_codes, int(codes.max()) + 1)
            np.add.at(self._of_codes, codes, np.stack([true_lengths, lost], axis=1).astype(np.int64))

    @property
    def num_rows(self) -> int:
        return int(self.counts.sum())

    @property
    def longest(self) -> int:
        return int(np.flatnonzero(self.counts)[-1])

    @property
    def usual(self) -> int:
        """Tokens that 95 % of the rows do not exceed."""
        return int(np.searchsorted(np.cumsum(self.counts), USUAL_SHARE * (self.num_rows - 1) // 1, side="right"))

    @property
    def lost_share(self) -> float:
        """Of all tokens, those that are cut off."""
        return self._num_lost / max(1, int(self.counts @ np.arange(len(self.counts))))

    def lost_by_class(self, numbers: np.ndarray, names: Sequence[str]) -> dict[str, float] | None:
        """The share that the rows of each class lose; None when no row loses any.

        numbers: the class of each code, or its classes as 0 and 1 (codes, C).
        """
        if not self._num_lost:
            return None
        if numbers.ndim == 2:
            totals = numbers.T.astype(np.int64) @ self._of_codes
        else:
            totals = np.zeros((len(names), 2), np.int64)
            np.add.at(totals, numbers, self._of_codes)
        return {name: float(lost / max(1, total)) for name, (total, lost) in zip(names, totals, strict=True)}

    def quantiles(self) -> dict[str, int]:
        """Tokens by name, `min` to `max`."""
        ends, total = np.cumsum(self.counts), self.num_rows
        found = {name: int(np.searchsorted(ends, max(share * total, 1))) for name, share in QUANTILES.items()}
        return found | {"max": self.longest}

    def histogram(self) -> list[tuple[int, int | None, int]]:
        """(from, to, rows) of 16 bins up to `max_length`; the last one is of all longer rows and has no end."""
        end, width = self.max_length + 1, -(-self.max_length // HISTOGRAM_BINS)
        bins = [(start, min(start + width, end)) for start in range(1, end, width)]
        return [
            *((start, stop - 1, int(self.counts[start:stop].sum())) for start, stop in bins),
            (end, None, int(self.counts[end:].sum())),
        ]


def _grown(counts: np.ndarray, size: int) -> np.ndarray:
    """The counts with as many zeros after them as are missing to `size`."""
    return np.pad(counts, ((0, max(0, size - len(counts))), *[(0, 0)] * (counts.ndim - 1)))
