"""One run directory while a command works on it: lock, log, record of how it went."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetune_cli.errors import ExitCode, FinetuneError, NotFinishedError
from finetune_cli.provenance import describe_process, peak_memory_bytes
from finetune_cli.run_dir import RunDir, require_writable

STATUS = {
    ExitCode.DONE: "finished",
    ExitCode.NOT_FINISHED: "stopped",
    ExitCode.INTERRUPTED: "stopped",
}


@contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Hold the run directory alone. Raises NotFinishedError when another process has it; a crash releases it."""
    require_writable(run.path)
    with run.lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            file.seek(0)
            raise NotFinishedError(
                f"Another run holds {run.path} (process {file.read().strip() or 'unknown'}). Wait for it, or choose another "
                f"directory with --output-dir."
            ) from err
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def recorded(run: RunDir, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Keep run.log and run.json while the block runs; run.json is written last, with exit code, error and time.

    Yields the record, to which the block adds what it learns.
    """
    record = {**describe_process(), **facts, "status": "running", "exit_code": None}
    run.write_record(record)
    began = time.monotonic()
    with _logging_to(run) as log:
        code = ExitCode.RUN_FAILED
        try:
            yield record
            code = ExitCode.DONE
        except BaseException as err:
            code = err.exit_code if isinstance(err, FinetuneError) else code
            code = ExitCode.INTERRUPTED if isinstance(err, KeyboardInterrupt) else code
            record["error"] = str(err) if isinstance(err, FinetuneError) else f"{type(err).__name__}: {err}"
            log.exception("The command ended with exit code %d", code)
            raise
        finally:
            status = {"status": STATUS.get(code, "failed"), "exit_code": int(code)}
            record |= {**status, "seconds": time.monotonic() - began, "peak_memory_bytes": peak_memory_bytes()}
            run.write_record(record)


def note_failed_launch(run: RunDir, exit_code: int) -> None:
    """Say in run.json how a launched group ended, when its main process could not do so itself."""
    record = run.read_record()
    if record.get("status") == "running":
        error = "A process of the group was killed or failed; its message is in the output."
        run.write_record({**record, "status": "failed", "exit_code": exit_code, "error": error})


@contextmanager
def _logging_to(run: RunDir) -> Iterator[logging.Logger]:
    """Send the package's log to run.log; yields a logger that writes there alone, for tracebacks."""
    handler = logging.FileHandler(run.log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    package, file_only = logging.getLogger("finetune_cli"), logging.Logger("finetune_cli")
    package.addHandler(handler)
    file_only.addHandler(handler)
    try:
        yield file_only
    finally:
        package.removeHandler(handler)
        handler.close()
