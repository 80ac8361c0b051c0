"""Files and directories written so that a crash leaves no half of one, and what a full disk is called."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from finetune_cli.errors import ConfigError, RunFailedError

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A text file that takes the place of `path` when the block ends well, synced; otherwise `path` stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as file:
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


def directory_bytes(path: Path) -> int:
    """The sizes of all files below a directory; what vanishes meanwhile, and what links lead to, is left out."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


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
    """Make a rename in `path` survive a power cut; does nothing in a directory that we may write but not read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
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
