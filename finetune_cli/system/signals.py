"""The signals that ask a run to stop, and how they end a command outside of the training loop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from finetune_cli.errors import FinetuneError, InterruptedRunError, NotFinishedError

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
def stopping_at_once() -> Iterator[None]:
    """Inside the block a stop signal ends the command with `stop_error`. The training loop has its own handlers.

    Nothing has to be finished first: every file is either complete or absent. After the first signal the others are
    ignored, because the process is ending and a second signal must not change the exit code.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    previous = {number: signal.signal(number, _stop_now) for number in STOP_SIGNALS}
    try:
        yield
    except BaseException as err:
        if not (_received or isinstance(err, StoppedError | InterruptedRunError)):
            raise
        previous = dict.fromkeys(STOP_SIGNALS, signal.SIG_IGN)
        # An interrupted import may fail later and in any way. The reason is the signal.
        raise (StopNow(_received[0]).error if _received else err) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
