"""The two streams: results go to stdout, everything else to stderr.

A terminal gets colours and a progress bar; a pipe, a log file or a dumb terminal gets plain lines.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TextIO

from finetune_cli.errors import RunFailedError
from finetune_cli.records.plain import plain
from finetune_cli.system.files import DISK_FULL

RED, YELLOW, BOLD = "31", "33", "1"


class OutputClosedError(Exception):
    """The program that read our stdout has ended, as `head` does after its last line."""


def open_streams() -> None:
    """Make the standard streams safe to write to, whatever they were handed over as. Call it before anything is opened.

    What is closed leads nowhere: else the next file that is opened would get its number, and with it what libraries
    print. Characters that a stream's encoding lacks are escaped. A closed standard input stays None in `sys.stdin`.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def output_error(err: OSError) -> RunFailedError:
    """What to raise when standard output takes no more; what was not written yet is given up."""
    leave_quietly()
    return RunFailedError(f"standard output cannot be written: {err.strerror or err}. What came before may be cut.")


def is_output_error(err: OSError) -> bool:
    """Whether an error is a full disk behind an open stream: that of a file would name it."""
    return err.errno in DISK_FULL and err.filename is None


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches this stream on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def paint(text: str, style: str, stream: TextIO) -> str:
    """The text in an ANSI style, where the stream shows one and NO_COLOR (https://no-color.org) does not forbid it."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{style}m{text}\x1b[0m"


def write_error(text: str) -> None:
    """Write a line on stderr. When stderr is closed, write nothing from then on."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process


def show_error(message: str, *, with_traceback: bool = False, enabled: bool = True) -> None:
    """enabled: False in all processes but the main one, which fail with the same error."""
    if not enabled:
        return
    if with_traceback:
        write_error(traceback.format_exc().rstrip())
    write_error(f"{paint('error:', RED, sys.stderr)} {message}")


def show_bug() -> None:
    """Show the traceback of an unexpected error, and how to report it."""
    write_error(traceback.format_exc().rstrip())
    write_error(
        f"{paint('error:', RED, sys.stderr)} this is a bug in finetune or in a library below it. Please report it with "
        f"the lines above, the config and `finetune --version`."
    )


def leave_quietly() -> None:
    """Point stdout at nothing, so that Python's last flush does not complain about the closed pipe."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # no file of the system
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


@dataclass(kw_only=True)
class Output:
    """Where a command's result goes: one JSON document, or lines and tables for people.

    enabled: False in all processes but the main one, which print nothing. quiet, verbose: how much is told beside it.
    """

    as_json: bool = False
    enabled: bool = True
    quiet: bool = False
    verbose: bool = False

    def result(self, report: Any, table: Callable[..., None], **details: Any) -> None:
        """What a command found: with --json as one document, else as `table` writes it for people."""
        if self.as_json:
            self.json(report.to_json())
        else:
            table(self, report, **details)

    def line(self, text: str = "") -> None:
        """One line of the result. Raises OutputClosedError when its reader has ended."""
        if not self.enabled:
            return
        try:
            print(text, file=sys.stdout, flush=True)
        except BrokenPipeError as err:
            raise OutputClosedError from err
        except OSError as err:
            raise output_error(err) from err

    def heading(self, text: str) -> None:
        self.line(paint(text, BOLD, sys.stdout))

    def json(self, value: Any) -> None:
        """One JSON document; what is not finite becomes null, which JSON has."""
        finite = plain(value)
        text = json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False, default=str)
        try:
            text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        except UnicodeEncodeError:  # escapes that JSON knows, before the stream makes others
            text = json.dumps(finite, indent=2, allow_nan=False, default=str)
        self.line(text)

    def warn(self, message: str) -> None:
        if self.enabled:
            write_error(f"{paint('warning:', YELLOW, sys.stderr)} {message}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
        """A table: the first `left` columns are aligned to the left, the others, numbers, to the right."""
        lines = [header, *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = [
                cell.ljust(width) if column < left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            text = f"  {'  '.join(cells)}".rstrip()
            self.line(paint(text, BOLD, sys.stdout) if line is header else text)

    @contextmanager
    def byte_stream(self) -> Iterator[BinaryIO]:
        """stdout for bytes. Raises OutputClosedError when its reader has ended."""
        try:
            yield sys.stdout.buffer
        except BrokenPipeError as err:
            raise OutputClosedError from err
        except OSError as err:
            if not is_output_error(err):
                raise
            raise output_error(err) from err
