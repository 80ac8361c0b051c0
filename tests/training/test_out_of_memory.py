"""Out of memory: fewer rows at once, the same update, said aloud."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import RunFailedError
from finetune_cli.training.checkpointing import Checkpoints
from finetune_cli.training.objective import Objective
from finetune_cli.training.progress import Progress

SETTINGS = {"model": {"dropout": 0.0, "attention_dropout": 0.0}, "checkpointing": {"every": 2}}


def updates(run: Path) -> np.ndarray:
    """(updates, 3): loss, gradient norm and learning rate."""
    records = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return np.array([[r["loss"], r["grad_norm"], r["learning_rate"]] for r in records if r["type"] == "train"])


@pytest.fixture
def small_device(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device that holds 3 rows at once from the fourth micro-batch on; returns the sizes that it was asked for."""
    sizes: list[int] = []
    compute = Objective.__call__

    def compute_or_fail(self: Objective, model: torch.nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        sizes.append(len(batch["labels"]))
        if len(sizes) > 3 and sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return compute(self, model, batch)

    monkeypatch.setattr(Objective, "__call__", compute_or_fail)
    return sizes


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_the_micro_batch_is_halved_and_the_curve_stays(
    tmp_path: Path,
    write_config: Callable[..., Path],
    small_device: list[int],
    loop: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = load_config(write_config(tmp_path, training={"loop": loop}, **SETTINGS))
    report = train(config)
    assert report.steps == 6
    assert small_device[-1] == 2  # 8, then 4, then 2 rows at once
    assert "Out of memory with 8 rows at once; going on with 4" in caplog.text
    assert "Out of memory with 4 rows at once; going on with 2" in caplog.text
    assert json.loads((tmp_path / "run" / "run.json").read_text())["micro_batch_size"] == 2
    small_device[:] = []
    two_at_once = {"loop": loop, "micro_batch_size": 2}
    train(load_config(write_config(tmp_path, training=two_at_once, output_dir=str(tmp_path / "two"), **SETTINGS)))
    np.testing.assert_allclose(updates(tmp_path / "run"), updates(tmp_path / "two"), rtol=1e-5)


def test_a_micro_batch_size_that_was_given_is_not_changed(
    tmp_path: Path, write_config: Callable[..., Path], small_device: list[int]
) -> None:
    config = load_config(write_config(tmp_path, training={"micro_batch_size": 8}))
    with pytest.raises(RunFailedError, match=r"Out of memory with 8 rows at once.*training.micro_batch_size lower"):
        train(config)


@pytest.mark.parametrize("at", ["the first update", "the restoring"])
def test_memory_that_runs_out_after_going_back_takes_the_same_checkpoint_again(
    tmp_path: Path, write_config: Callable[..., Path], small_device: list[int], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Not the newest one, which needs lines of history.jsonl that are given up."""
    config = load_config(write_config(tmp_path, checkpointing={"every": 2, "keep": 10}))
    train(config)
    older, before = tmp_path / "run" / "checkpoints" / "step-000002", updates(tmp_path / "run")
    restored: list[Path] = []
    restore = Checkpoints.restore

    def note(self: Checkpoints, path: Path, *others: Any) -> Progress:
        restored.append(path)
        if at == "the restoring" and len(restored) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return restore(self, path, *others)

    monkeypatch.setattr(Checkpoints, "restore", note)
    small_device[:] = [8] * (9 if at == "the first update" else 0)
    assert train(config, resume=str(older)).resumed_from == 2
    assert len(restored) > 1
    assert restored[:2] == [older, older]
    assert updates(tmp_path / "run").shape == before.shape
