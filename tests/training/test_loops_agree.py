"""The two loops are one training: loss, gradient norm, learning rate at every update, and the final weights.

Tolerance 1e-5 relative; observed on this CPU: equal to the last bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune_cli.runs.parts import Parts
from tests.training.small_runs import Run, make_rows

RELATIVE = 1e-5


def train_both(directory: Path, **settings: Any) -> tuple[Run, Run]:
    rows = settings.pop("rows", make_rows(45))  # 5 full updates of 8 rows and a ragged one of 5
    tamper = settings.pop("tamper", lambda parts: None)
    by_trainer = Run("trainer", directory / "trainer", rows, **settings).train()
    by_hand = Run("accelerate", directory / "accelerate", rows, tamper=tamper, **settings).train()
    return by_trainer, by_hand


def largest_differences(first: Run, second: Run, *, leave_out: str = "nothing") -> dict[str, float]:
    """The largest relative difference in each column of the history, and over the weight tensors."""
    left, right = first.updates(), second.updates()
    assert left.shape == right.shape
    scale = np.maximum(np.abs(left), 1e-12)
    columns = dict(zip(("loss", "grad_norm", "learning_rate"), (np.abs(left - right) / scale).max(axis=0), strict=True))
    weights = second.weights()
    apart = max(
        float((value - weights[name]).norm() / value.norm())
        for name, value in first.weights().items()
        if leave_out not in name
    )
    return {**columns, "weights": apart}


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("batching", ["length", "random"])
def test_loops_agree_with_dropout_accumulation_and_a_ragged_last_update(
    tmp_path: Path, accumulation: int, batching: str
) -> None:
    runs = train_both(tmp_path, micro_batch_size=8 // accumulation, dropout=0.1, batching=batching)
    assert len(runs[0].updates()) == 12
    assert all(value <= RELATIVE for value in largest_differences(*runs).values())


def test_loops_agree_on_regression_and_label_smoothing(tmp_path: Path) -> None:
    regression = train_both(tmp_path / "regression", rows=make_rows(30, kind="regression"), kind="regression")
    assert all(value <= RELATIVE for value in largest_differences(*regression).values())
    smoothed = train_both(tmp_path / "smoothed", label_smoothing=0.1)
    assert all(value <= RELATIVE for value in largest_differences(*smoothed).values())


def test_loops_agree_in_bf16(tmp_path: Path) -> None:
    runs = train_both(tmp_path, precision="bf16", dropout=0.1, micro_batch_size=4)
    assert all(value <= 1e-2 for value in largest_differences(*runs).values())


def scale_the_loss(parts: Parts) -> None:
    parts.objective.num_processes = 2


def step_the_schedule_twice(parts: Parts) -> None:
    step = parts.schedule.step

    def twice() -> None:
        step()
        step()

    parts.schedule.step = twice


def swap_the_order(parts: Parts) -> None:
    parts.order.seed += 1


@pytest.mark.parametrize(
    ("tamper", "seen_in"),
    [(scale_the_loss, "loss"), (step_the_schedule_twice, "learning_rate"), (swap_the_order, "grad_norm")],
)
def test_a_tampered_loop_is_noticed(tmp_path: Path, tamper: Any, seen_in: str) -> None:
    """The comparison above can fail: each of these faults of one loop is far outside the tolerance."""
    differences = largest_differences(*train_both(tmp_path, tamper=tamper))
    assert differences[seen_in] > 100 * RELATIVE
    assert differences["weights"] > 100 * RELATIVE


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_accumulation_equals_one_large_batch(tmp_path: Path, loop: str) -> None:
    """batch 8 x 1 = 4 x 2 = 2 x 4 = 3 + 3 + 2, dropout off, the ragged update of 5 rows included."""
    rows = make_rows(45)
    whole = Run(loop, tmp_path / "8", rows, micro_batch_size=8).train()
    for micro_batch_size in (4, 2, 3):
        parts = Run(loop, tmp_path / str(micro_batch_size), rows, micro_batch_size=micro_batch_size).train()
        # A key's bias shifts all scores of a query alike, which softmax takes out again: its gradient is rounding
        # noise, and Adam scales noise up to full steps.
        differences = largest_differences(whole, parts, leave_out="key.bias")
        assert all(value <= RELATIVE for value in differences.values()), (micro_batch_size, differences)


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_training_learns_and_moves_every_weight(tmp_path: Path, loop: str) -> None:
    run = Run(loop, tmp_path, make_rows(45), num_epochs=12, learning_rate=3e-3)
    start = {name: value.clone() for name, value in run.untrained_weights().items()}
    losses = run.train().updates()[:, 0]
    assert losses[-6:].mean() < 0.1 < losses[:6].mean()
    unmoved = [name for name, value in run.weights().items() if torch.equal(value, start[name])]
    assert unmoved == []


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_a_nonfinite_update_is_skipped_when_asked(tmp_path: Path, loop: str) -> None:
    """A NaN loss at the third update leaves every weight as it was, and training goes on."""
    seen: list[int] = []

    def poison(parts: Parts) -> None:
        losses = parts.objective.losses

        def poisoned(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            seen.append(len(seen))
            return losses(logits, labels) * (float("nan") if len(seen) == 3 else 1.0)

        parts.objective.losses = poisoned

    run = Run(loop, tmp_path, make_rows(40), tamper=poison, skip_nonfinite=True).train()
    records = [record for record in run.history() if record["type"] == "train"]
    assert [record["step"] for record in records if record["loss"] is None] == [3]
    assert all(torch.isfinite(value).all() for value in run.weights().values())
