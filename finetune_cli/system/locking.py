"""Locks on files that a crash releases, also where the file system knows no `flock`.

Network file systems may refuse it: NFS without its lock daemon (ENOLCK), Lustre mounted without -o flock (ENOSYS). Then
the file says which process holds it, which shows a second one on the same machine; one on another machine is not seen.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

NOT_SUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


class HeldError(Exception):
    """Another process has the lock; `holder` is its number, as text."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def take(file: IO[str], *, wait: bool = False) -> bool:
    """Lock an open file (mode "a+") for this process alone, and write into it who holds it.

    wait: for a process that holds it; False is returned then. Without `wait` HeldError is raised instead. Where there
    are no such locks, a warning is given once and nobody is waited for.
    """
    at_once = True
    try:
        if not hold(file, wait=False) and not wait and (holder := _living_holder(file)):
            raise HeldError(holder)
    except BlockingIOError as err:
        if not wait:
            raise HeldError(next(iter(_noted(file)), "unknown")) from err
        at_once = False
        logger.info("Another process is preparing the same data; waiting for it")
        hold(file)
    _note_holder(file)
    return at_once


def hold(file: IO[str], *, wait: bool = True) -> bool:
    """Lock an open file for this process alone; for moments, so nobody's name is noted.

    False where there are no such locks: a warning is given once, and nobody is waited for. Raises BlockingIOError when
    another process has it and `wait` is False.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno not in NOT_SUPPORTED:
            raise
        _warn(str(Path(file.name).parent), err.strerror or str(err))
        return False
    return True


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a lock file together with others, so that `is_held` says of it that somebody works here."""
    with path.open("a+") as file:
        with suppress(OSError):  # without locks the note tells
            fcntl.flock(file, fcntl.LOCK_SH)
        _note_holder(file)
        yield


def is_held(path: Path) -> bool | None:
    """Whether a living process has a lock file; None when that cannot be known.

    That is so where there are no locks, or those of another machine may not be seen, and the file names a process of
    another one.
    """
    try:
        with path.open("r+") as file:
            if _living_holder(file):
                return True
            match _noted(file):
                case [_, host, _]:
                    is_ours = host == socket.gethostname()
                case _:
                    is_ours = True
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False if is_ours else None


def _note_holder(file: IO[str]) -> None:
    file.seek(0)
    file.truncate(0)
    file.write(f"{os.getpid()} {socket.gethostname()} {_started(os.getpid())}\n")
    file.flush()


@cache
def _warn(directory: str, reason: str) -> None:
    logger.warning(
        "%s: this file system has no locks (%s). A second run on the same directory is noticed on this machine alone: "
        "start none on another.",
        directory,
        reason,
    )


def _noted(file: IO[str]) -> list[str]:
    file.seek(0)
    return file.read().split()


def _living_holder(file: IO[str]) -> str | None:
    """The process that the file names, when it is another one of this machine and still runs."""
    match _noted(file):
        case [number, host, started] if number.isdecimal() and host == socket.gethostname():
            if int(number) != os.getpid() and started == _started(int(number)):
                return number
    return None


def _started(process: int) -> str:
    """When a process of this machine started, in ticks, since its number may be another's later; "-": it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return "-"
    except OSError:  # it belongs to another user
        pass
    return "running"
