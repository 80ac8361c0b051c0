"""A number for each row of a split, kept on disk, so that memory stays constant however many rows there are."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 1 << 16  # numbers read at once


class SpilledArray:
    """A one-dimensional array that grows, in a file without a name: it is gone with this object, or this process.

    Fill it first; reading and appending in turns is not meant.
    """

    def __init__(self, folder: Path, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as this object lives
        weakref.finalize(self, self._file.close)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, values: Sequence[int] | np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(values, self.dtype).data)
        self._length += len(values)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All numbers in order, some at once, each time with the place of the first."""
        for start in range(0, len(self), BLOCK):
            yield start, self._read(start, BLOCK)

    def at(self, places: Sequence[int] | np.ndarray) -> list[int]:
        """The numbers at a few places."""
        return [int(self._read(int(place), 1)[0]) for place in places]

    def _read(self, start: int, count: int) -> np.ndarray:
        self._file.seek(start * self.dtype.itemsize)
        return np.frombuffer(self._file.read(count * self.dtype.itemsize), self.dtype)
