"""Who works at which trial of a sweep: locks that a crash releases, in files beside the journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
    _held: ExitStack

    def release(self) -> None:
        self._held.close()


def try_claim(folder: Path, trial: FrozenTrial) -> Claim | None:
    """Take a trial, unless another living process has it."""
    stack = _try_lock(folder / f"trial-{trial.number}.lock")
    return None if stack is None else Claim(trial, stack)


def require_nobody_works(path: Path, folder: Path) -> None:
    """Raise NotFinishedError when a living process works at a trial of the sweep at `path`."""
    for lock in folder.glob("trial-*.lock"):
        stack = _try_lock(lock)
        if stack is None:
            number = lock.stem.partition("-")[2]
            raise NotFinishedError(
                f"Another process works at {path} (trial {number}). Wait for it, or choose another directory with "
                "--output-dir."
            )
        stack.close()


def unfinished(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.RUNNING]


def _try_lock(path: Path) -> ExitStack | None:
    stack = ExitStack()
    file = stack.enter_context(path.open("a+"))
    try:
        locking.take(file)
    except locking.HeldError:
        stack.close()
        return None
    return stack
