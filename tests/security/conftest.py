"""A run to look into, and payloads that leave a marker when anything runs them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


class Payload:
    """Unpickling it makes the file `marker`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@dataclass(frozen=True)
class Trap:
    marker: Path

    def pickled(self) -> bytes:
        return pickle.dumps(Payload(self.marker), protocol=2)  # torch.load's own

    def code(self) -> str:
        """Python that springs the trap when it is imported."""
        return f"import pathlib\npathlib.Path({str(self.marker)!r}).mkdir()\n"

    def sprung(self) -> bool:
        return self.marker.exists()


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "executed")
