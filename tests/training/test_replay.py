"""Updates that are recorded and replayed, on the CPU: recording is keeping the work, and replaying is doing it again.

What only a GPU can show, that a graph holds all of the work, is in tests/gpu.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from finetune_cli.config.load import load_config
from finetune_cli.runs import fit
from finetune_cli.runs.on_device import can_replay
from finetune_cli.runs.parts import Parts, build_parts
from finetune_cli.training import replay
from finetune_cli.training.cuda_graphs import NumbersFilledIn, Work
from tests.training.small_runs import Run, make_rows

LOOPS = ("trainer", "accelerate")


class Again:
    """Does the work again. The first time is when it is replayed: recording does nothing, as on a GPU."""

    recorded = replayed = 0
    fails = False

    def __init__(self, device: torch.device, *, fill: bool) -> None:
        type(self).recorded = type(self).replayed = 0

    def record(self, work: Work) -> Work:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        type(self).recorded += 1

        def again() -> None:
            type(self).replayed += 1
            work()

        return again


@pytest.fixture(autouse=True)
def _recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "CudaRecorder", Again)
    monkeypatch.setattr(Again, "fails", False)
    Again.recorded = Again.replayed = 0


def rates_in_float32(parts: Parts) -> None:
    """As graphs have them: a run without graphs then trains the same model to the last bit."""

    def round_them(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] = float(np.float32(group["lr"]))

    parts.optimizer.register_step_pre_hook(round_them)


def equal_weights(first: Run, second: Run) -> bool:
    ours, theirs = first.weights(), second.weights()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("micro_batch_size", [8, 3])
def test_replayed_updates_train_the_same_model(loop: str, micro_batch_size: int, tmp_path: Path) -> None:
    """Also with several micro-batches, a short last update, clipping, a schedule and scoring in between."""
    settings: dict[str, Any] = {"micro_batch_size": micro_batch_size, "evaluate_every": 4, "num_epochs": 4}
    plain = Run(loop, tmp_path / "plain", make_rows(37), **settings, tamper=rates_in_float32).train()
    again = Run(loop, tmp_path / "again", make_rows(37), **settings, replay=True).train()
    assert np.array_equal(again.updates(), plain.updates())
    assert equal_weights(again, plain)
    assert Again.replayed == len(plain.updates()) - 1  # all but the first
    assert 1 < Again.recorded < Again.replayed


def test_both_loops_replay_the_same_model(tmp_path: Path) -> None:
    first, second = (Run(loop, tmp_path / loop, make_rows(37), replay=True).train() for loop in LOOPS)
    assert np.array_equal(first.updates(), second.updates())
    assert equal_weights(first, second)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_continued_run_replays_from_its_first_update_on_and_ends_the_same(loop: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"save_every": 3, "num_epochs": 2, "replay": True}
    whole = Run(loop, tmp_path / "whole", make_rows(40), **settings).train()

    def stop_after_five(event: Any) -> None:
        if getattr(event, "step", 0) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(loop, tmp_path / "part", make_rows(40), **settings, listen=stop_after_five).train()
    rest = Run(loop, tmp_path / "part", make_rows(40), **settings, resume=True).train()
    assert Again.replayed == len(whole.updates()) - 3
    assert np.array_equal(rest.updates(), whole.updates())
    assert equal_weights(rest, whole)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_model_that_cannot_be_recorded_goes_on_without_and_says_so_once(
    loop: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Run(loop, tmp_path / "plain", make_rows(37), tamper=rates_in_float32).train()
    monkeypatch.setattr(Again, "fails", True)
    with caplog.at_level(logging.INFO, logger="finetune_cli"):
        again = Run(loop, tmp_path / "again", make_rows(37), replay=True).train()
    assert np.array_equal(again.updates(), plain.updates())
    assert equal_weights(again, plain)
    [said] = [record.getMessage() for record in caplog.records if "CUDA graphs" in record.getMessage()]
    assert said.endswith("kernel by kernel: operation not permitted when stream is capturing")


@pytest.mark.parametrize("draw", [torch.rand, lambda size: random.random(), lambda size: np.random.rand()])
def test_a_model_that_draws_on_the_cpu_is_not_recorded_and_draws_as_ever(
    draw: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one that leaves out layers by chance: a graph would leave out the same ones for ever."""

    def noisy(parts: Parts) -> None:
        parts.model.register_forward_pre_hook(lambda *_: (draw(1), None)[1])

    def noisy_and_rounded(parts: Parts) -> None:
        noisy(parts)
        rates_in_float32(parts)

    plain = Run("accelerate", tmp_path / "plain", make_rows(37), tamper=noisy_and_rounded).train()
    states = torch.get_rng_state(), random.random(), np.random.rand()
    with caplog.at_level(logging.INFO, logger="finetune_cli"):
        again = Run("accelerate", tmp_path / "again", make_rows(37), replay=True, tamper=noisy).train()
    assert Again.replayed == 0
    assert "draws random numbers on the CPU" in caplog.text
    assert equal_weights(again, plain)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.random(), np.random.rand()) == states[1:]


def test_a_weight_that_gets_its_first_gradient_late_is_not_in_a_graph(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimizer would make its moments anew in each replay."""

    class Doing(Again):
        def record(self, work: Work) -> Work:
            work()
            return super().record(work)

    monkeypatch.setattr(replay, "CudaRecorder", Doing)

    def late(parts: Parts) -> None:
        extra, calls = torch.nn.Parameter(torch.zeros(())), []

        def add(module: Any, args: Any, output: Any) -> Any:
            calls.append(1)
            if len(calls) > 1:
                output.logits = output.logits + extra
            return output

        parts.model.register_forward_hook(add)
        parts.optimizer.param_groups[1]["params"].append(extra)

    with caplog.at_level(logging.INFO, logger="finetune_cli"):
        Run("accelerate", tmp_path, make_rows(16), replay=True, tamper=late).train()
    assert "a weight got its first gradient after the first update" in caplog.text


def test_shapes_beyond_the_most_graphs_are_launched_kernel_by_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the weights do not show which update was: a continued run has other shapes first."""
    whole = Run("accelerate", tmp_path / "whole", make_rows(37), replay=True).train()
    assert Again.recorded > 2
    monkeypatch.setattr(replay, "MOST_GRAPHS", 2)
    again = Run("accelerate", tmp_path / "again", make_rows(37), replay=True).train()
    assert Again.recorded == 2
    assert np.array_equal(again.updates(), whole.updates())
    assert equal_weights(again, whole)


@pytest.mark.parametrize(
    ("override", "mixed_precision", "expected"),
    [
        (None, "no", True),
        (None, "bf16", True),
        (None, "fp16", False),
        ("training.cuda_graphs=false", "bf16", False),
        ("training.packing=true", "bf16", False),
        ("training.gradient_checkpointing=true", "bf16", False),
        ("training.trainer_args={adam_beta2: 0.98, tf32: false}", "bf16", True),
        ("training.trainer_args={optim: sgd}", "bf16", False),
        ("training.trainer_args={torch_empty_cache_steps: 5}", "bf16", False),
    ],
)
def test_what_the_host_decides_anew_in_each_update_rules_graphs_out(
    override: str | None, mixed_precision: str, expected: bool
) -> None:
    config = load_config(Path("configs/quickstart.yaml"), [override] if override else [])
    assert can_replay(config, mixed_precision) is expected


def test_an_optimizer_that_is_not_fused_is_not_replayed(tmp_path: Path) -> None:
    def unfused(parts: Parts) -> None:
        for group in parts.optimizer.param_groups:
            group["fused"] = False
        del parts.optimizer._step_supports_amp_scaling  # type: ignore[attr-defined]

    run = Run("accelerate", tmp_path, make_rows(16), replay=True, tamper=unfused).train()
    assert len(run.updates()) == 4
    assert Again.recorded == 0


def test_a_number_that_is_copied_to_the_device_is_filled_in_there() -> None:
    """With the device that computes nothing, but tells what would be computed there."""
    device = torch.device("meta")

    class Called(TorchDispatchMode):
        names: ClassVar[list[str]] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.names.append(str(func))
            return func(*args, **(kwargs or {}))

    numbers = torch.zeros(2)
    with Called() as called, NumbersFilledIn(device):
        moved = torch.tensor(3).to(device, torch.float32)
        numbers.to(device)
    assert (moved.device, moved.dtype) == (device, torch.float32)
    assert [name for name in called.names if "full" in name] == ["aten.full.default"]
    assert [name for name in called.names if "copy" in name] == ["aten._to_copy.default"]  # of the two numbers


@pytest.mark.parametrize("loop", LOOPS)
def test_out_of_memory_leaves_out_the_graphs_before_it_halves_the_rows(
    loop: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, bool]] = []

    class Full(Exception):
        """The third attempt, which would train."""

    def out_of_memory(parts: Parts, *_: Any) -> None:
        made.append((parts.micro_batch_size, parts.device_settings.replay))
        raise Full if len(made) == 3 else torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def as_on_cuda(context: Any, rows: int, *, replay: bool) -> Parts:
        parts = build_parts(context, rows, replay=replay)
        return dataclasses.replace(parts, device_settings=dataclasses.replace(parts.device_settings, replay=replay))

    monkeypatch.setattr(fit, "run_loop", out_of_memory)
    monkeypatch.setattr(fit, "build_parts", as_on_cuda)
    context = Run(loop, tmp_path, make_rows(16), micro_batch_size="auto").build().context
    with pytest.raises(Full):
        fit.fit(context, None)
    assert made == [(8, True), (8, False), (4, False)]
    assert "going on without CUDA graphs" in caplog.text
