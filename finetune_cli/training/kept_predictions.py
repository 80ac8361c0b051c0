"""What every evaluation of a training found of each row, kept in its checkpoints, so that the choice can be judged.

A checkpoint has those of all evaluations before it: whichever the run goes on from, the candidates are the same.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT_FILE = "candidates.npz"

Arrays = Mapping[str, NDArray[Any]]


def packed(arrays: Arrays) -> bytes:
    """The content of an .npz file; the same arrays give the same bytes."""
    content = io.BytesIO()
    save: Callable[..., None] = np.savez  # its stub takes the arrays' names for those of its options
    save(content, **arrays)
    return content.getvalue()


class KeptPredictions:
    """Arrays by name for each evaluation of the deciding split, by its update; those of one run have equal shapes."""

    def __init__(self) -> None:
        self.by_step: dict[int, Arrays] = {}
        self._noted: Arrays = {}

    def note(self, arrays: Arrays) -> None:
        """What the evaluation under way has found; it counts from `keep` on, when the evaluation is over."""
        self._noted = arrays

    def keep(self, step: int) -> None:
        if self._noted:
            self.by_step[step] = self._noted
        self._noted = {}

    def stacked(self) -> dict[str, NDArray[Any]]:
        """The arrays of all evaluations together, each with their number K in front, and their updates as "step"."""
        first = next(iter(self.by_step.values()))
        stacked = {name: np.stack([arrays[name] for arrays in self.by_step.values()]) for name in first}
        return {"step": np.array(list(self.by_step)), **stacked}

    def save(self, directory: Path) -> None:
        """Into a folder that is not visible yet; nothing when no evaluation left anything."""
        if self.by_step:
            (directory / KEPT_FILE).write_bytes(packed(self.stacked()))

    def restore(self, directory: Path) -> None:
        """Those of the checkpoint in place of any others; none when it has no such file."""
        self.by_step = {}
        if (directory / KEPT_FILE).is_file():
            with np.load(directory / KEPT_FILE, allow_pickle=False) as stacked:
                arrays = dict(stacked)
            for place, step in enumerate(arrays.pop("step").tolist()):
                self.by_step[step] = {name: values[place] for name, values in arrays.items()}
