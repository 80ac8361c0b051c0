"""Work done ahead in a second thread, and input that such a thread can be called back from."""

from __future__ import annotations

import io
import os
import queue
import select
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar

Item = TypeVar("Item")

JOIN_SECONDS = 0.05


def read_ahead(items: Iterator[Item], *, wake: Callable[[], None] = lambda: None) -> Generator[Item]:
    """The items in order, the next ones made in a second thread while the caller works on this one.

    At most two are made ahead. An error of `items` is raised here, in its place. Closing the iterator ends the thread
    before it returns; `wake` is called first, to end a wait for input. Close it whatever happens (`closing`).
    """
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def work() -> None:
        try:
            for item in items:
                ready.put((True, item))
                if stopped.is_set():
                    return
            ready.put((False, None))
        except BaseException as err:  # raised again where the items are used
            ready.put((False, err))

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (answer := ready.get())[0]:
            yield answer[1]
        if answer[1] is not None:
            raise answer[1]
    finally:
        stopped.set()
        wake()
        while thread.is_alive():
            with suppress(queue.Empty):
                ready.get_nowait()  # makes room for what it still wants to hand over
            thread.join(JOIN_SECONDS)


class InterruptibleInput(io.RawIOBase):
    """What arrives at a pipe or terminal, until `interrupt` is called from another thread: then it is at its end.

    A plain read cannot be ended from outside, and a thread that sits in one keeps Python from exiting.
    """

    def __init__(self, source: BinaryIO) -> None:
        """source: a stream with a file descriptor, of which nothing has been read yet."""
        self._input = source.fileno()
        self._woken, self._waker = os.pipe()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        ready, _, _ = select.select([self._input, self._woken], [], [])
        if self._woken in ready:
            return 0
        received = os.read(self._input, len(buffer))
        buffer[: len(received)] = received
        return len(received)

    def interrupt(self) -> None:
        os.write(self._waker, b"x")

    def close(self) -> None:
        if not self.closed:
            os.close(self._woken)
            os.close(self._waker)
        super().close()
