"""The errors a user can meet, one exit code per class, and the pieces that many messages share.

`str(error)` is the whole message: where, what was expected, what was found, what to type next.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What the process returns; the same number is in `run.json`."""

    DONE = 0
    RUN_FAILED = 1
    CONFIG = 2
    DATA = 3
    GATE_FAILED = 4
    MISSING = 5
    NOT_FINISHED = 75
    INTERRUPTED = 130


class FinetuneError(Exception):
    """A fault that the user can understand and mend: shown without a traceback."""

    exit_code = ExitCode.RUN_FAILED

    def __init__(self, message: str):
        super().__init__(message)


class RunFailedError(FinetuneError):
    """Training itself failed: NaN loss, out of memory after the last retry, disk full."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a config.

    source: the file, or the `--set` argument, as the user wrote it.
    line, column: counted from 1; None where there is none (a `--set`, an unreadable file).
    key: the dotted key, such as `training.batch_size`; empty when the mistake has no key.
    """

    source: str
    line: int | None
    column: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"
        return f"{place}  {self.key}: {self.message}" if self.key else f"{place}  {self.message}"


class ConfigError(FinetuneError):
    """The config or the command line is wrong; `problems` holds every mistake found, in the order of the file."""

    exit_code = ExitCode.CONFIG

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()):
        super().__init__(message)
        self.problems = problems


class DataError(FinetuneError):
    """The rows are wrong: missing column, unknown label, unreadable row, no rows."""

    exit_code = ExitCode.DATA


class _WithReport(FinetuneError):
    """Comes when the work is done and its report made."""

    def __init__(self, message: str, report: Any):
        super().__init__(message)
        self.report = report


class GateFailedError(_WithReport):
    """A score does not reach what a `--gate` asks for; `report` is the EvalReport with all scores."""

    exit_code = ExitCode.GATE_FAILED


class MembersFailedError(_WithReport, RunFailedError):
    """Some of several runs failed, such as seeds; `report` is about the others."""


class MissingError(FinetuneError):
    """Something needed is not there: a model while offline, a whole checkpoint, a trained head, an extra."""

    exit_code = ExitCode.MISSING


class NotFinishedError(FinetuneError):
    """Stopped after a complete checkpoint, or another run holds the directory: run the same command again."""

    exit_code = ExitCode.NOT_FINISHED


class PrunedError(NotFinishedError):
    """A trial of a sweep did worse than others had done by then, and ends early."""


class InterruptedRunError(FinetuneError):
    """Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED


def error_of(code: int, message: str) -> FinetuneError:
    """The error of a process that ended with this exit code."""
    kinds = (ConfigError, DataError, MissingError, NotFinishedError, InterruptedRunError)
    return next((kind for kind in kinds if kind.exit_code == code), RunFailedError)(message)


def did_you_mean(
    name: str, choices: Iterable[str], *, before: str = " ", shown: Callable[[str], object] = lambda choice: choice
) -> str:
    """` Did you mean x?`, or nothing when no choice is near. before: what goes in front. shown: x as it is written."""
    import difflib

    close = difflib.get_close_matches(name, list(choices), n=1)
    return f"{before}Did you mean {shown(close[0])}?" if close else ""


def counted(count: float, noun: str, *, form: str = "") -> str:
    """`1 row`, `3 rows`: a number and what it counts. noun: for one; that of several ends in s. form: of the number."""
    return f"{count:{form or ('g' if isinstance(count, float) else 'd')}} {noun}{'' if count == 1 else 's'}"


def in_words(err: BaseException) -> str:
    """An error for a record: the message of one of ours; of others, which may be bugs, the type as well."""
    return str(err) if isinstance(err, FinetuneError) else f"{type(err).__name__}: {err}"


def first_line(err: BaseException) -> str:
    """A library's error, short enough for a message: one line of at most 300 characters, without a full stop."""
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:300].rstrip(" .:")
