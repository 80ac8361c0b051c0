"""Updates are read two late on an accelerator, so that it never waits: nothing that a run leaves behind tells of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from finetune_cli.errors import NotFinishedError, RunFailedError
from finetune_cli.records.training import StepRecord
from finetune_cli.runs.parts import Parts
from finetune_cli.training.history import History
from finetune_cli.training.monitor import Monitor
from finetune_cli.training.progress import BestRule, Cadence
from finetune_cli.training.readings import send_reading
from finetune_cli.training.stopping import StopRequest
from tests.training.small_runs import Run, make_rows
from tests.training.test_resume import LOOPS, assert_same_run, stop_at


@pytest.mark.parametrize("loop", LOOPS)
def test_a_lag_changes_neither_history_nor_weights_nor_checkpoints(tmp_path: Path, loop: str) -> None:
    settings: dict[str, Any] = {"rows": make_rows(45), "dropout": 0.1, "evaluate_every": 5, "save_every": 4}
    at_once = Run(loop, tmp_path / "at-once", **settings).train()
    late = Run(loop, tmp_path / "late", **settings, lag=2).train()
    assert_same_run(at_once, late)
    assert [path.name for path in sorted(late.checkpoints.directory.iterdir())] == [
        path.name for path in sorted(at_once.checkpoints.directory.iterdir())
    ]


@pytest.mark.parametrize("loop", LOOPS)
def test_with_a_lag_the_device_is_two_updates_ahead_until_something_is_due(tmp_path: Path, loop: str) -> None:
    computed, seen = [0], []

    def count(parts: Parts) -> None:
        losses = parts.objective.losses

        def counted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            computed[0] += 1
            return losses(logits, labels)

        parts.objective.losses = counted

    def listen(event: Any) -> None:
        if isinstance(event, StepRecord):
            seen.append((event.step, computed[0]))

    Run(loop, tmp_path, make_rows(40), num_epochs=1, tamper=count, listen=listen, lag=2).train()
    assert seen == [(1, 3), (2, 4), (3, 5), (4, 5), (5, 5)]  # after update 5 the epoch ends: all are read


@pytest.mark.parametrize("loop", LOOPS)
def test_with_a_lag_a_nan_is_reported_with_its_own_rows_before_a_checkpoint(tmp_path: Path, loop: str) -> None:
    """The loss of update 3 is NaN, a checkpoint is due after update 4, which ran before anybody had read the loss."""

    def poison(parts: Parts) -> None:
        losses, calls = parts.objective.losses, [0]

        def poisoned(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            calls[0] += 1
            return losses(logits, labels) * (float("nan") if calls[0] == 3 else 1.0)

        parts.objective.losses = poisoned

    messages = []
    for lag in (0, 2):
        run = Run(loop, tmp_path / str(lag), make_rows(40), tamper=poison, save_every=4, lag=lag)
        with pytest.raises(RunFailedError, match=r"^Update 3: the loss is nan") as caught:
            run.train()
        messages.append(str(caught.value))
        assert [record["step"] for record in run.history()] == [1, 2]
        assert not run.checkpoints.directory.exists()
    assert messages[0] == messages[1]


@pytest.mark.parametrize("loop", LOOPS)
def test_with_a_lag_a_stopped_run_continues_bit_for_bit(tmp_path: Path, loop: str) -> None:
    settings: dict[str, Any] = {"rows": make_rows(45), "micro_batch_size": 4, "dropout": 0.1}
    undisturbed = Run(loop, tmp_path / "undisturbed", **settings).train()
    with pytest.raises(NotFinishedError, match="after update 10 of 12"):  # what is told late is heard late
        Run(loop, tmp_path / "stopped", **settings, **stop_at(8), lag=2).train()
    assert_same_run(undisturbed, Run(loop, tmp_path / "stopped", **settings, resume=True, lag=2).train())


def test_a_reading_is_the_same_on_every_process() -> None:
    """Loss: the mean. Signal: the highest. Seconds: the main process's, which comes first."""
    other = torch.tensor([3.0, 0.5, 15.0, 99.0])
    group = SimpleNamespace(num_processes=2, gather=lambda own: torch.cat([own, other]))
    read = send_reading(group, torch.tensor(1.0), torch.tensor(0.5), signal_number=0, seconds_since_save=7.0)  # type: ignore[arg-type]
    reading = read()
    assert (reading.loss, reading.grad_norm, reading.signal_number, reading.seconds_since_save) == (2.0, 0.5, 15, 7.0)


def small_monitor(directory: Path, accelerator: Any, saved: list[int], **settings: Any) -> Monitor:
    """Follows 20 updates of nothing; `saved` gets the updates after which a checkpoint would be written."""
    checkpoints: Any = SimpleNamespace(
        save=lambda *args, **_: saved.append(args[2].step),
        require_room=lambda *args: None,
        remove_after=lambda step: None,
    )
    schedule: Any = SimpleNamespace(optimizer=None)
    defaults: dict[str, Any] = {
        "cadence": Cadence(20, 20, None, None, None),
        "best_rule": BestRule("loss", greater_is_better=False),
        "evaluate": lambda *_: {},
    }
    monitor = Monitor(
        accelerator,
        schedule,
        checkpoints=checkpoints,
        history=History(directory / "history.jsonl"),
        rows_of=lambda step: (np.arange(2), 6),
        stop=StopRequest(),
        **(defaults | settings),
    )
    monitor.start()
    return monitor


def test_an_overflow_that_the_fp16_scaler_skips_is_no_failure(tmp_path: Path) -> None:
    """It starts with a scale that is too large on purpose; a loss that is not finite stays an error."""
    accelerator = SimpleNamespace(num_processes=1, is_main_process=True, scaler=object())
    monitor = small_monitor(tmp_path, accelerator, [])
    monitor.after_update(loss=torch.tensor(0.7), grad_norm=torch.tensor(torch.inf), learning_rate=0.1)
    with pytest.raises(RunFailedError, match="Update 2"):
        monitor.after_update(loss=torch.tensor(torch.nan), grad_norm=torch.tensor(1.0), learning_rate=0.1)
    monitor.history.close()


class TwoProcesses:
    """Two monitors in two threads that exchange their readings, as two processes of a group do."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.barrier = threading.Barrier(2, timeout=60)
        self.table: list[torch.Tensor] = [torch.empty(0)] * 2
        self.exchanges = 0
        self.saved: list[list[int]] = [[], []]
        self.ends = ["", ""]
        self.monitors = [
            small_monitor(directory, self._accelerator(rank), self.saved[rank], **settings) for rank in (0, 1)
        ]

    def _accelerator(self, rank: int) -> Any:
        def gather(own: torch.Tensor) -> torch.Tensor:
            self.table[rank] = own
            self.barrier.wait()
            both = torch.cat(self.table)
            self.exchanges += rank
            self.barrier.wait()
            return both

        return SimpleNamespace(num_processes=2, is_main_process=rank == 0, gather=gather, scaler=None)

    def run(self, updates: int, before: Any) -> None:
        def one(rank: int) -> None:
            try:
                for step in range(1, updates + 1):
                    before(rank, step, self.monitors[rank])
                    self.monitors[rank].after_update(
                        loss=torch.tensor(1.0), grad_norm=torch.tensor(1.0), learning_rate=0.1
                    )
            except NotFinishedError as err:
                self.ends[rank] = str(err)

        threads = [threading.Thread(target=one, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for monitor in self.monitors:
            monitor.history.close()


@pytest.mark.parametrize("lag", [0, 2])
def test_a_signal_to_one_process_stops_all_after_the_same_update(tmp_path: Path, lag: int) -> None:
    def before(rank: int, step: int, monitor: Monitor) -> None:
        if (rank, step) == (1, 3):
            monitor.stop.handle(15, None)

    pair = TwoProcesses(tmp_path, lag=lag)
    pair.run(10, before)
    assert all(f"SIGTERM after update {3 + lag} of 20" in end for end in pair.ends)
    assert pair.saved == [[3 + lag], [3 + lag]]
    assert pair.exchanges == 3 + lag  # one for each update


@pytest.mark.parametrize("lag", [0, 2])
def test_all_processes_save_together_by_the_main_process_s_clock(tmp_path: Path, lag: int) -> None:
    def before(rank: int, step: int, monitor: Monitor) -> None:
        if (rank, step) == (0, 4):
            monitor.saved_at = time.monotonic() - 5000.0
        if (rank, step) == (1, 2):
            monitor.saved_at = time.monotonic() - 9000.0  # the other clocks do not count

    pair = TwoProcesses(tmp_path, lag=lag, cadence=Cadence(20, 20, None, None, 1000.0))
    pair.run(10, before)
    assert pair.saved == [[4 + lag], [4 + lag]]
