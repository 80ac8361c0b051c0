"""finetune train --dry-run: real updates, the right arithmetic, nothing in the run directory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune_cli.commands.dry_run import dry_run
from finetune_cli.config.load import load_config
from finetune_cli.data.order import RowOrder
from finetune_cli.errors import ConfigError, RunFailedError
from finetune_cli.system.machine import describe_cpu
from finetune_cli.training.objective import Objective
from tests.commands.run_files import Answer


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of the micro-batches that went through the model for training."""
    shapes: list[torch.Size] = []
    compute = Objective.__call__

    def note(self: Objective, model: torch.nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        shapes.append(batch["input_ids"].shape)
        return compute(self, model, batch)

    monkeypatch.setattr(Objective, "__call__", note)
    return shapes


@pytest.fixture
def small_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that holds 3 rows at once."""
    compute = Objective.__call__

    def compute_or_fail(self: Objective, model: torch.nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        if len(batch["labels"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return compute(self, model, batch)

    monkeypatch.setattr(Objective, "__call__", compute_or_fail)


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_the_whole_run_is_estimated_from_real_updates(
    tmp_path: Path, write_config: Callable[..., Path], seen: list[torch.Size], loop: str
) -> None:
    file = write_config(tmp_path, training={"loop": loop, "num_epochs": 4, "micro_batch_size": 4})
    report = dry_run(load_config(file, ["evaluation.every=5"]))
    assert (report.loop, report.micro_batch_size, report.precision) == (loop, 4, "fp32")
    assert (report.updates, report.updates_per_epoch) == (24, 6)
    assert report.evaluations == 5 + 1  # after 5, 10, 15, 20 and 24; then the best model once more
    assert [shape[0] for shape in seen[:2]] == [1, 2]  # for the memory, without an update
    assert len(seen) == 2 + 2 * (
        2 + 6
    )  # the longest rows twice, each update of the first epoch; two micro-batches each
    assert seen[0][1] == seen[2][1] == max(shape[1] for shape in seen)
    expected = 24 * report.mean_seconds_per_update + 6 * report.seconds_per_evaluation
    assert report.estimated_seconds == pytest.approx(expected)
    assert report.peak_memory_bytes > 50e6
    assert not (tmp_path / "run").exists()


def test_the_largest_update_comes_first(tmp_path: Path, write_config: Callable[..., Path], seen: Any) -> None:
    """Its rows are the longest of all, which no update of an epoch need bring together."""
    from finetune_cli.commands.prepare import prepare

    config = load_config(write_config(tmp_path))
    lengths = prepare(config).splits["train"].lengths
    dry_run(config)
    assert seen[2] == (8, lengths.max())
    assert seen[3] == seen[2]


def test_a_finished_run_is_left_as_it_is(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    file = write_config(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    answer = command(["train", file, "--dry-run"])
    assert answer.code == 0, answer.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]
    parts = ("nothing was trained", "updates          6 (6 an epoch)", "estimated time", "peak memory", "cpu, fp32")
    for part in (*parts, "estimated memory about "):
        assert part in answer.stdout


def test_json_is_one_document_with_the_same_numbers(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    answer = command(["train", write_config(tmp_path, model={"freeze": "body"}), "--dry-run", "--json", "-q"])
    report = json.loads(answer.stdout)
    assert report["updates"] == 6
    assert report["device_memory_bytes"] is None
    assert report["trained_parameters"] == 32 * 32 + 32 + 32 * 2 + 2  # pooler and classifier
    assert report["parameters"] > 10 * report["trained_parameters"]
    assert report["seconds_longest_update"] > 0
    memory = report["estimated_memory"]
    head = report["trained_parameters"] * 4
    assert (memory["gradients"], memory["optimizer"]) == (head, 2 * head)
    assert memory["weights"] >= report["parameters"] * 4
    assert memory["total"] == sum(size for name, size in memory.items() if name != "total")


def test_a_machine_that_is_too_small_is_named_before_the_first_update(
    tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    small_machine = dataclasses.replace(describe_cpu(), memory_limit_bytes=10**8)
    monkeypatch.setattr("finetune_cli.commands.dry_run.describe_cpu", lambda: small_machine)
    dry_run(load_config(write_config(tmp_path)))
    assert "this machine has 0.1 GB: the system may end it. Smaller: training.micro_batch_size" in caplog.text


def test_several_seeds_take_as_many_times(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    report = dry_run(load_config(write_config(tmp_path), ["training.seeds=[1, 2, 3]"]))
    one = report.updates * report.mean_seconds_per_update + report.evaluations * report.seconds_per_evaluation
    assert report.runs == 3
    assert report.estimated_seconds == pytest.approx(3 * one)


@pytest.mark.parametrize("options", [["--overwrite"], ["--resume", "never"], ["--num-processes", "2"]])
def test_options_that_it_cannot_honour_are_refused(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer], options: list[str]
) -> None:
    answer = command(["train", write_config(tmp_path), "--dry-run", *options])
    assert answer.code == 2
    assert f"Leave out {'--overwrite and --resume' if options[0] != '--num-processes' else options[0]}" in answer.stderr


def test_a_launched_group_is_refused(
    tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="without a launcher"):
        dry_run(load_config(write_config(tmp_path)))


def test_out_of_memory_says_the_rows_that_fit(
    tmp_path: Path, write_config: Callable[..., Path], small_device: None, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_config(tmp_path)
    report = dry_run(load_config(file))
    assert report.micro_batch_size == 2
    assert "Out of memory with 8 rows at once; the run would take 2" in caplog.text
    with pytest.raises(RunFailedError, match=r"with 6 rows at once; 3 will do. Type: -s training.micro_batch_size=3"):
        dry_run(load_config(file, ["training.micro_batch_size=6"]))


def test_the_timed_updates_are_spread_over_all_widths() -> None:
    """The mean width of the sample is near that of the epoch, with one update in a hundred very wide."""
    from finetune_cli.commands.dry_run import _typical_updates

    lengths = np.random.default_rng(0).geometric(0.05, 8 * 500)
    order = RowOrder(lengths, batch_size=8, seed=1)
    sample = np.mean([lengths[rows].max() for rows in _typical_updates(order)])
    epoch = np.mean([lengths[rows].max() for rows in order.epoch(0)])
    assert len(_typical_updates(order)) == 10
    assert sample == pytest.approx(epoch, rel=0.1)
