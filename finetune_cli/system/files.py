"""Write files and directories so that a crash never leaves one half written; explain a full disk."""

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
    """A text file that replaces `path`, synced, when the block ends without error; else `path` stays as it was."""
    # Of a path that is not UTF-8, Python's stand-ins for its bytes are escaped, in JSON as JSON does.
    with _temporary(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Write a text file in one piece: the whole file or the old one, never a part."""
    with replacing(path) as file:
        file.write(text)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one piece: the whole file or the old one, never a part."""
    with _temporary(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A place beside `path` for the new file, which the block leaves closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
        sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one piece."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def directory_bytes(path: Path) -> int:
    """The sizes of all files below a directory; what vanishes meanwhile, and what links lead to, is left out."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def remove_directory(path: Path) -> None:
    """Remove a directory: rename it first, so that under its name it is never half deleted."""
    renamed = path.with_name(f".deleting-{path.name}")
    shutil.rmtree(renamed, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path.rename(renamed), ignore_errors=True)


def publish_directory(temporary: Path, target: Path) -> None:
    """Rename a finished temporary directory to `target`, in place of an older one, after all of it is on the disk.

    Its files get the mode that the umask gives to new files: safetensors writes its own for the owner alone.
    """
    umask = os.umask(0)
    os.umask(umask)
    for path in temporary.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~umask)
            sync_file(path)
    temporary.chmod(0o777 & ~umask)  # a temporary directory is its owner's alone
    sync_directory(temporary)
    remove_directory(target)
    temporary.rename(target)
    sync_directory(target.parent)


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
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
    if path.exists() and not path.is_dir():
        raise ConfigError(f"output_dir: {path} is not a directory. Choose another one with --output-dir.")
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


def is_full_or_read_only(err: OSError) -> bool:
    """Whether a file could not be written for want of room or of the right to."""
    return err.errno in DISK_FULL | NOT_WRITABLE


def disk_error(err: OSError, path: Path) -> RunFailedError:
    """The error for a file of a run that could not be written. path: the run directory."""
    file = err.filename or path
    if err.errno in DISK_FULL:
        problem, remedy = f"the disk is full ({os.strerror(err.errno)})", "Free some space"
    else:
        problem, remedy = f"not writable ({err.strerror or err})", "Make it writable"
    return RunFailedError(
        f"{file}: {problem}. {remedy} and run the same command again: it goes on from the newest complete checkpoint."
    )


@contextmanager
def disk_errors_explained(path: Path) -> Iterator[None]:
    """Turn a full disk or a directory that cannot be written to, anywhere in the block, into a RunFailedError."""
    try:
        yield
    except Exception as err:
        if not isinstance(err, OSError):  # safetensors has the number of the error only in its text
            number = re.search(r"\(os error (\d+)\)", str(err))
            if number is None:
                raise
            err = OSError(int(number[1]), os.strerror(int(number[1])))
        if not is_full_or_read_only(err):
            raise
        raise disk_error(err, path) from err
