"""The runs below a directory, as their run.json tells; of those that run, the lock says whether it is true."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_cli.errors import ConfigError, first_line
from finetune_cli.records.run import RunRecord
from finetune_cli.runs.run_dir import WORKING, RunDir
from finetune_cli.system import locking

OWN_FOLDERS = {"checkpoints", "model", "eval", "metrics", "tracking"}  # of a run; no run is inside
QUIET_SECONDS = 3600  # without a new line in run.log, after which a run on another machine counts as killed


@dataclass(frozen=True)
class ListedRun:
    """A run: its path below the directory that was asked for, and its record.

    is_killed: the record says that it runs, and nobody works at it. A trial that its sweep ended early is pruned, not
    stopped: nothing is to be typed again.
    """

    path: str
    record: RunRecord
    is_killed: bool = False

    @property
    def status(self) -> str | None:
        if self.is_killed:
            return "killed"
        return "pruned" if self.record.pruned else self.record.status

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "kind": self.record.kind, **self.record.to_json(), "status": self.status}


@dataclass(frozen=True)
class RunList:
    """The runs below `directory`; unreadable: path of a directory or of a run.json -> why it could not be read."""

    directory: Path
    runs: list[ListedRun] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        runs = [run.to_json() for run in self.runs]
        return {"directory": str(self.directory), "runs": runs, "unreadable": self.unreadable}


def list_runs(directory: Path) -> RunList:
    """Every run at or below `directory`, in no order; links and hidden folders are not followed.

    Raises ConfigError when there is no such directory.
    """
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise ConfigError(f"{directory} {what}. Name a directory with runs below it: finetune runs DIR")
    listed = RunList(directory)
    for folder in _folders(directory, listed.unreadable):
        run = RunDir(folder)
        try:
            record = run.read_whole_record()
            is_killed = record.status == "running" and not _is_worked_at(run)
            listed.runs.append(ListedRun(os.path.relpath(folder, directory), record, is_killed))
        except (OSError, ValueError) as err:
            listed.unreadable[str(run.record)] = (isinstance(err, OSError) and err.strerror) or (
                f"damaged: {first_line(err)}"
            )
    return listed


def _is_worked_at(run: RunDir) -> bool:
    """Whether a process works at a run that says so: it holds its lock. Where that cannot be seen, by its last word."""
    held = [locking.is_held(lock) for lock in (run.lock, run.sweep / WORKING) if lock.is_file()]
    if None not in held:
        return any(held)
    try:
        return time.time() - run.log.stat().st_mtime < QUIET_SECONDS
    except OSError:
        return False


def _folders(directory: Path, unreadable: dict[str, str]) -> Iterator[str]:
    """The directories that have a run.json."""

    def note(err: OSError) -> None:
        unreadable[err.filename] = err.strerror or str(err)

    for folder, names, files in os.walk(directory, onerror=note):
        is_run = "run.json" in files
        names[:] = [name for name in names if not name.startswith(".") and not (is_run and name in OWN_FOLDERS)]
        if is_run:
            yield folder
