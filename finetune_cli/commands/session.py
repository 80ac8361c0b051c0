"""One run directory while a command works on it: lock, log, record of how it went."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune_cli.errors import ConfigError, ExitCode, FinetuneError, NotFinishedError
from finetune_cli.provenance import describe_process, peak_memory_bytes
from finetune_cli.run_dir import RunDir, require_writable

logger = logging.getLogger(__name__)

STATUS = {
    ExitCode.DONE: "finished",
    ExitCode.NOT_FINISHED: "stopped",
    ExitCode.INTERRUPTED: "stopped",
}
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Hold the run directory alone. Raises NotFinishedError when another process has it; a crash releases it."""
    import fcntl

    require_writable(run.path)
    with run.lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise NotFinishedError(
                f"Another run holds {run.path} (process {holder}). Wait for it, or choose another directory with --output-dir."
            ) from err
        _write_holder(file)
        yield


def _write_holder(file: Any) -> None:
    import os

    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()


@contextmanager
def recorded(run: RunDir, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Keep run.log and run.json while the block runs; run.json is written last, with the exit code and the time.

    Yields the record, to which the block adds what it learns. An earlier run's seconds are added up.
    """
    record = {**describe_process(), **facts, "status": "running", "exit_code": None}
    run.write_record(record)
    began = time.monotonic()
    handler = logging.FileHandler(run.log, encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    package_logger = logging.getLogger("finetune_cli")
    package_logger.addHandler(handler)
    code = ExitCode.RUN_FAILED
    try:
        yield record
        code = ExitCode.DONE
    except FinetuneError as err:
        code = err.exit_code
        record["error"] = str(err)
        _log_traceback()
        raise
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
        raise
    except BaseException as err:
        record["error"] = f"{type(err).__name__}: {err}"
        _log_traceback()
        raise
    finally:
        record |= {
            "status": STATUS.get(code, "failed"),
            "exit_code": int(code),
            "seconds": time.monotonic() - began,
            "peak_memory_bytes": peak_memory_bytes(),
        }
        package_logger.removeHandler(handler)
        handler.close()
        run.write_record(record)


def _log_traceback() -> None:
    """The traceback goes to run.log alone; the terminal shows the message."""
    for handler in logging.getLogger("finetune_cli").handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR", "name": __name__, "msg": traceback.format_exc()}))
