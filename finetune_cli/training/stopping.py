"""Stopping between two updates: signals set a flag, and all processes agree on it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from finetune_cli.errors import ExitCode
from finetune_cli.system.group import highest_of_all
from finetune_cli.system.signals import STOP_SIGNALS


class StopRequest:
    """Which signal asked to stop, if any. A second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.signal_number = 0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal_number == signal.SIGINT:
            os._exit(ExitCode.INTERRUPTED)
        self.signal_number = self.signal_number or number

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the stop signals inside the block; outside the main thread (a notebook's) signals stay as they are."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self.handle) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def agreed(self, accelerator: Any) -> int:
        """The signal that any process got, the same answer on every process; 0 for none."""
        agreed = highest_of_all(self.signal_number, accelerator)
        if agreed:  # else keep a signal that came while we waited: the others hear of it next time
            self.signal_number = agreed
        return agreed
