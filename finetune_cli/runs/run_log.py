"""run.log: what the package says while it works at a run, and shortly before."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler

from finetune_cli.runs.run_dir import RunDir

NEVER = sys.maxsize  # records, and level: only run.log, once it is open, empties the memory


class _EarlyRecords(MemoryHandler):
    """What is said before run.log is open: the findings of the data checks, for one."""


@contextmanager
def keeping_early_records() -> Iterator[None]:
    package, early = logging.getLogger("finetune_cli"), _EarlyRecords(NEVER, flushLevel=NEVER)
    early.setLevel(logging.INFO)
    package.addHandler(early)
    try:
        yield
    finally:
        package.removeHandler(early)


class _LogFile(logging.FileHandler):
    """run.log; what a full disk does not take is left out, since the terminal has it, too."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):  # what it could not write before, it tries again now
            super().close()


@contextmanager
def logging_to(run: RunDir) -> Iterator[logging.Logger]:
    """Send the package's log to run.log; yields a logger that writes there alone, for tracebacks."""
    handler = _LogFile(run.log, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    package, file_only = logging.getLogger("finetune_cli"), logging.Logger("finetune_cli")
    waiting = [early for early in package.handlers if isinstance(early, _EarlyRecords)]
    for early in waiting[-1:]:  # of the innermost run alone
        early.setTarget(handler)
        early.flush()
    for early in waiting:
        package.removeHandler(early)
    package.addHandler(handler)
    if package.level == logging.NOTSET:  # called from Python, where no command line has set up the log
        package.setLevel(logging.INFO)
    file_only.addHandler(handler)
    try:
        yield file_only
    finally:
        package.removeHandler(handler)
        handler.close()
