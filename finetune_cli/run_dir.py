"""Where a run's files are, and how they are written so that a crash leaves no half file."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import IO, Any

from finetune_cli.errors import ConfigError, RunFailedError

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}
UNFINISHED = (".writing-*", ".deleting-*", ".probe-*", ".*.[0-9]*.tmp")  # what a killed process leaves of its writing


class RunDir:
    """The files of one run, as DESIGN lays them out; paths only, nothing is created by asking."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.record = self.path / "run.json"
        self.history = self.path / "history.jsonl"
        self.log = self.path / "run.log"
        self.lock = self.path / "run.lock"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.summary = self.path / "summary.json"
        self.tracking = self.path / "tracking"

    def evaluation(self, split: str) -> Path:
        return self.path / "eval" / split

    def seed_run(self, seed: int) -> RunDir:
        """The run of one of several seeds."""
        return RunDir(self.path / f"seed-{seed}")

    def seed_runs(self) -> list[RunDir]:
        """The runs of several seeds in this directory, by seed; empty for an ordinary run."""
        configs = (path for path in self.path.glob("seed-*/config.yaml") if path.parent.name[5:].isdecimal())
        return [RunDir(path.parent) for path in sorted(configs, key=lambda path: int(path.parent.name[5:]))]

    def require_one_seed(self) -> None:
        """Raise ConfigError that names the seeds when this directory holds several."""
        if runs := self.seed_runs():
            names = ", ".join(str(run.path) for run in runs)
            raise ConfigError(f"{self.path} holds a run for each of several seeds. Name one of them: {names}")

    def holds_work(self) -> bool:
        """Whether a run got as far as something that can be lost: a checkpoint or a model, beside its config."""
        return self.config.is_file() and (self.model.is_dir() or any(self.checkpoints.glob("step-*")))

    def read_record(self) -> dict[str, Any]:
        """run.json, or {} when it is not there or was damaged."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def write_record(self, record: Mapping[str, Any]) -> None:
        write_json(self.record, record)

    def clear(self) -> None:
        """Remove what earlier runs left, of several seeds too (locks stay); files that are not a run's are kept.

        The record goes first and the config last: killed in between, this is the same run, unfinished.
        """
        self.record.unlink(missing_ok=True)
        for seed_run in self.seed_runs():
            seed_run.clear()
        for path in (self.checkpoints, self.model, self.path / "eval", self.tracking):
            remove_directory(path)
        for file in (self.history, self.log, self.summary, self.config):
            file.unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove what killed processes left of files that they were writing; call it with the lock held."""
        folders = (self.path, self.checkpoints, self.model, *self.path.glob("eval/*"))
        for folder, pattern in product(folders, UNFINISHED):
            for path in list(folder.glob(pattern)):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A text file that takes the place of `path` when the block ends well, synced; otherwise `path` stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_directory(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one piece: the whole file or the old one, never a part."""
    with replacing(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def remove_directory(path: Path) -> None:
    """Remove a directory so that nobody meets a half of it under its name: renamed first, then deleted."""
    doomed = path.with_name(f".deleting-{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path.rename(doomed), ignore_errors=True)


def publish_directory(aside: Path, target: Path) -> None:
    """Make a directory that was written aside visible as `target`, in place of an older one, once it is all on disk.

    Its files get the mode that the umask gives to new files: safetensors writes its own for the owner alone.
    """
    umask = os.umask(0)
    os.umask(umask)
    for path in aside.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~umask)
            sync_file(path)
    sync_directory(aside)
    remove_directory(target)
    aside.rename(target)
    sync_directory(target.parent)


def sync_file(path: Path) -> None:
    """Wait until what was written to a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make a rename in `path` survive a power cut; a no-op where directories cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_writable(path: Path) -> None:
    """Create the directory and prove that a file can be written in it.

    Raises ConfigError when not, RunFailedError when the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as err:
        if err.errno in DISK_FULL:
            raise disk_error(err, path) from err
        raise ConfigError(
            f"output_dir: cannot write in {path}: {err.strerror or err}. Choose another directory with --output-dir."
        ) from err


def disk_error(err: OSError, path: Path) -> RunFailedError:
    """What to tell the user when a run's file could not be written. `path`: the run directory."""
    file = err.filename or path
    if err.errno in DISK_FULL:
        what, remedy = f"the disk is full ({os.strerror(err.errno)})", "Free some space"
    else:
        what, remedy = f"not writable ({err.strerror or err})", "Make it writable"
    return RunFailedError(
        f"{file}: {what}. {remedy} and run the same command again: it goes on from the newest complete checkpoint."
    )


@contextmanager
def disk_errors_explained(path: Path) -> Iterator[None]:
    """Turn a full disk or a directory that cannot be written to, anywhere in the block, into a RunFailedError."""
    try:
        yield
    except Exception as err:
        if not isinstance(err, OSError):  # the writer of safetensors has the number in its text alone
            found = re.search(r"\(os error (\d+)\)", str(err))
            if found is None:
                raise
            err = OSError(int(found[1]), os.strerror(int(found[1])))
        if err.errno not in DISK_FULL | NOT_WRITABLE:
            raise
        raise disk_error(err, path) from err
