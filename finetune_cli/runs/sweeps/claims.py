"""Who works at which trial of a sweep: locks that a crash releases, in files beside the journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from optuna.trial import FrozenTrial, TrialState

from finetune_cli.errors import NotFinishedError
from finetune_cli.system import locking


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for whoever has it."""
    with path.open("a") as file:
        locking.hold(file)
        yield


@dataclass(frozen=True)
class Claim:
    """A trial that this process works at until `release`."""

    trial: FrozenTrial
    _lock: IO[str]

    def release(self) -> None:
        self._lock.close()


def try_claim(folder: Path, trial: FrozenTrial) -> Claim | None:
    """Take a trial, unless another living process has it."""
    lock = _try_lock(folder / f"trial-{trial.number}.lock")
    return None if lock is None else Claim(trial, lock)


def require_nobody_works(path: Path, folder: Path) -> None:
    """Raise NotFinishedError when a living process works at a trial of the sweep at `path`."""
    for file in folder.glob("trial-*.lock"):
        lock = _try_lock(file)
        if lock is None:
            number = file.stem.partition("-")[2]
            raise NotFinishedError(
                f"Another process works at {path} (trial {number}). Wait for it, or choose another directory with "
                "--output-dir."
            )
        lock.close()


def unfinished(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.RUNNING]


def _try_lock(path: Path) -> IO[str] | None:
    """The file, locked until it is closed; None where another process has it."""
    file = path.open("a+")
    try:
        locking.take(file)
    except locking.HeldError:
        file.close()
        return None
    return file
