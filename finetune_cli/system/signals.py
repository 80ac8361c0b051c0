"""The signals that ask a run to stop: they end a command at once, and a training between two updates."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

from finetune_cli.errors import FinetuneError, InterruptedRunError, NotFinishedError
from finetune_cli.system.group import highest_of_all

Handler = Callable[[int, FrameType | None], None]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # SIGUSR1: Slurm and others announce a preemption so

_received: list[int] = []  # signals inside `stopping_at_once`; a library may catch what the handler raises


class StoppedError(NotFinishedError):
    """SIGTERM or SIGUSR1 ended the command."""


class StopNow(BaseException):
    """A stop signal came where it can end the command at once. Not an Exception, so that no library catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.error = stop_error(number, "before the end; no file is half written")


def stop_error(number: int, done: str) -> FinetuneError:
    """The error that ends a stopped command: exit code 130 after Ctrl-C, 75 after any other signal."""
    message = f"Stopped by {signal.Signals(number).name} {done}. Run the same command again."
    return InterruptedRunError(message) if number == signal.SIGINT else StoppedError(message)


@contextmanager
def handling_stop_signals(handler: Handler) -> Iterator[dict[signal.Signals, Any]]:
    """Have this function handle the stop signals inside the block.

    Yields the handlers that are put back after it; the block may change them. Outside the main thread (a notebook's)
    the signals stay as they are, and there are none.
    """
    is_main = threading.current_thread() is threading.main_thread()
    afterwards = {number: signal.signal(number, handler) for number in STOP_SIGNALS} if is_main else {}
    try:
        yield afterwards
    finally:
        for number, previous in afterwards.items():
            signal.signal(number, previous)


def ignore(handlers: dict[signal.Signals, Any]) -> None:
    """Have the process ignore these signals from now on, because it is ending and its exit code is decided."""
    handlers.update(dict.fromkeys(handlers, signal.SIG_IGN))


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Inside the block a stop signal ends the command with `stop_error`. A training has a `StopRequest`.

    Nothing has to be finished first: every file is either complete or absent. After the first signal the others are
    ignored, because the process is ending and a second signal must not change the exit code.
    """
    _received.clear()
    with handling_stop_signals(_stop_now) as afterwards:
        try:
            yield
        except BaseException as err:
            if not (_received or isinstance(err, StoppedError | InterruptedRunError)):
                raise
            ignore(afterwards)
            # An interrupted import may fail later and in any way. The reason is the signal.
            raise (StopNow(_received[0]).error if _received else err) from None


def end_if_stopped() -> None:
    """Raise StopNow when a stop signal came but a library caught the exception, as some imports do."""
    if _received:
        raise StopNow(_received[0])


def _stop_now(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    for other in STOP_SIGNALS:  # a second Ctrl-C ends the process without cleaning up
        signal.signal(other, _exit_now if other == signal.SIGINT else signal.SIG_IGN)
    raise StopNow(number)


def _exit_now(_number: int, _frame: FrameType | None) -> None:
    os._exit(InterruptedRunError.exit_code)


class StopRequest:
    """Which signal asked a training to stop, if any. A second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.signal_number = 0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal_number == signal.SIGINT:
            _exit_now(number, None)
        self.signal_number = self.signal_number or number

    def listening(self) -> AbstractContextManager[Any]:
        """Note the stop signals inside the block."""
        return handling_stop_signals(self.handle)

    def agreed(self, accelerator: Any) -> int:
        """The signal that any process got, the same answer on every process; 0 for none."""
        agreed = highest_of_all(self.signal_number, accelerator)
        if agreed:  # else keep a signal that came while we waited: the others hear of it next time
            self.signal_number = agreed
        return agreed
