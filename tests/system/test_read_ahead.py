"""The second thread of prepare and predict: order, errors in their place, and an end whatever happens."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from finetune_cli.errors import DataError
from finetune_cli.system.read_ahead import InterruptibleInput, read_ahead


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_items_come_in_order_and_at_most_two_are_made_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    with closing(read_ahead(items())) as ahead:
        for number in range(20):
            assert next(ahead) == number
            assert len(made) <= number + 3
        assert list(ahead) == []
    assert reading_threads() == []


def test_an_error_is_raised_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise DataError("row 7 is bad")

    with closing(read_ahead(items())) as ahead:
        assert next(ahead) == 1
        with pytest.raises(DataError, match="row 7 is bad"):
            next(ahead)
    assert reading_threads() == []


@pytest.mark.parametrize("taken", [1, 3])
def test_the_thread_ends_with_whoever_stops_reading(taken: int) -> None:
    def read_some() -> None:
        with closing(read_ahead(iter(range(1000)))) as ahead:
            for number in ahead:
                if number == taken:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_some()
    assert reading_threads() == []


def test_a_wait_for_input_that_never_comes_can_be_ended() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as source, os.fdopen(write_end, "wb", buffering=0) as sink:
        sink.write(b"first\nsecond\n")
        with InterruptibleInput(source) as raw, io.BufferedReader(raw) as lines:
            with closing(read_ahead(iter(lines), wake=raw.interrupt)) as ahead:
                assert [next(ahead), next(ahead)] == [b"first\n", b"second\n"]
                assert len(reading_threads()) == 1  # it waits for a third line
            assert reading_threads() == []


def test_input_that_can_be_ended_reads_to_its_end() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as source:
        with os.fdopen(write_end, "wb") as sink:
            sink.write(b"first\nlast")
        with InterruptibleInput(source) as raw, io.BufferedReader(raw) as lines:
            assert list(lines) == [b"first\n", b"last"]
