"""What happens on devices that these tests do not have, with a pretended count, table or answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from transformers import TrainingArguments

from finetune_cli.commands.dry_run import dry_run
from finetune_cli.config.load import load_config
from finetune_cli.evaluation import inference
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.runs.answer_precision import prepare_to_answer
from finetune_cli.runs.fit import new_accelerator
from finetune_cli.training import generators
from finetune_cli.training.device_settings import apply_device_settings, choose_device_settings
from finetune_cli.training.placing import ddp_options
from finetune_cli.training.trainer_loop import SharedPartsTrainer
from tests.training.small_runs import Run, make_rows

LOOPS = ["trainer", "accelerate"]


@pytest.fixture
def torch_settings() -> Iterator[None]:
    """Puts back what is kept for the process."""
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cuda.cudnn_sdp_enabled()
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cuda.enable_cudnn_sdp(cudnn)


def test_one_process_that_sees_four_gpus_trains_on_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainer wraps the model in DataParallel when its arguments count several GPUs."""
    found = TrainingArguments.__dict__["_setup_devices"].func

    def with_four(self: TrainingArguments) -> torch.device:
        device: torch.device = found(self)
        self._n_gpu = 4
        return device

    pretended = cached_property(with_four)
    pretended.__set_name__(TrainingArguments, "_setup_devices")
    monkeypatch.setattr(TrainingArguments, "_setup_devices", pretended)
    wrapped: list[torch.nn.Module] = []

    class Recorded(torch.nn.DataParallel):
        def __init__(self, module: torch.nn.Module, *more: Any, **options: Any) -> None:
            wrapped.append(module)
            super().__init__(module, *more, **options)

    monkeypatch.setattr(torch.nn, "DataParallel", Recorded)
    trained = Run("trainer", tmp_path / "four", make_rows(16), num_epochs=1).train()
    assert wrapped == []
    monkeypatch.undo()
    alone = Run("trainer", tmp_path / "one", make_rows(16), num_epochs=1).train()
    assert np.array_equal(trained.updates(), alone.updates())


def test_cudnn_attention_is_off_on_cuda_alone(torch_settings: None) -> None:
    choose: Callable[..., Any] = choose_device_settings
    options = {"precision": "auto", "mixed_precision": "bf16", "compile_model": False}
    torch.backends.cuda.enable_cudnn_sdp(True)
    apply_device_settings(choose("cpu", **options))
    assert torch.backends.cuda.cudnn_sdp_enabled()
    apply_device_settings(choose("cuda", **options))
    assert not torch.backends.cuda.cudnn_sdp_enabled()


class _Enough(Exception):
    """The test has seen what it wanted."""


@pytest.mark.parametrize(("device", "multiple"), [("cpu", 1), ("cuda", 8)])
def test_scored_rows_are_padded_to_multiples_of_8_on_cuda(
    monkeypatch: pytest.MonkeyPatch, device: str, multiple: int
) -> None:
    asked: list[dict[str, Any]] = []

    def pad(*_: Any, **options: Any) -> None:
        asked.append(options)
        raise _Enough

    monkeypatch.setattr(inference, "pad_rows", pad)
    monkeypatch.setattr(inference, "form_of_mask", lambda model, *, ready, always: ready)
    with pytest.raises(_Enough):
        predict_logits(torch.nn.Identity(), make_rows(4), pad_token_id=0, device=torch.device(device))
    assert [(options["multiple_of"], options["ready_mask"]) for options in asked] == [(multiple, device == "cuda")]


def test_the_logits_of_a_batch_are_fetched_while_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Model(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            return type("Output", (), {"logits": torch.zeros(len(input_ids), 2)})

    def start(values: torch.Tensor) -> Callable[[], torch.Tensor]:
        number = sum(event.startswith("start") for event in events)
        events.append(f"start {number}")

        def fetch() -> torch.Tensor:
            events.append(f"fetch {number}")
            return values

        return fetch

    monkeypatch.setattr(inference, "start_copy", start)
    monkeypatch.setattr(inference, "CPU_TOKENS_PER_BATCH", 1)
    predict_logits(Model(), make_rows(3), pad_token_id=0, device=torch.device("cpu"))
    assert events == ["start 0", "start 1", "fetch 0", "start 2", "fetch 1", "fetch 2"]


def test_a_model_without_a_run_answers_as_auto_would_train_it(
    monkeypatch: pytest.MonkeyPatch, torch_settings: None
) -> None:
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert prepare_to_answer(None, torch.device("cuda")) is torch.bfloat16
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.parametrize("loop", LOOPS)
def test_the_schedule_counts_an_update_that_the_scaler_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    """Of a fused optimizer the scaler never says so, of others it does: both are to have one schedule."""
    plain = Run(loop, tmp_path / "plain", make_rows(24)).train()
    monkeypatch.setattr(AcceleratedOptimizer, "step_was_skipped", property(lambda self: True))
    skipped = Run(loop, tmp_path / "skipped", make_rows(24)).train()
    assert np.array_equal(skipped.updates()[:, 2], plain.updates()[:, 2])


@pytest.mark.parametrize("loop", LOOPS)
def test_updates_that_were_left_out_are_counted_over_a_resume(tmp_path: Path, loop: str) -> None:
    def spoil(parts: Any) -> None:
        losses = parts.objective.losses
        parts.objective.losses = lambda logits, labels: losses(logits, labels) * float("nan")

    settings: dict[str, Any] = {"rows": make_rows(16), "skip_nonfinite": True, "save_every": 1}
    run = Run(loop, tmp_path, num_epochs=1, tamper=spoil, **settings).train()
    assert [record["loss"] for record in run.history() if record["type"] == "train"] == [None, None]
    restored = json.loads((run.checkpoints.path(2) / "progress.json").read_text())
    assert restored["progress"]["skipped_updates"] == 2


def test_the_dry_run_of_a_compiled_model_scores_without_the_compiler(
    tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stances: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: None)
    monkeypatch.setattr(torch.compiler, "set_stance", lambda stance: stances.append(stance) or nullcontext())
    dry_run(load_config(write_config(tmp_path), ["training.compile=true"]))
    assert stances == ["force_eager"]


@pytest.mark.parametrize(("accumulates", "static"), [(False, True), (True, False)])
def test_ddp_exchanges_gradients_without_copies_and_plans_once_where_it_can(accumulates: bool, static: bool) -> None:
    handler = new_accelerator("no", ddp_options(accumulates=accumulates)).ddp_handler
    assert handler.to_kwargs() == {
        "gradient_as_bucket_view": True,
        "broadcast_buffers": False,
        **({"static_graph": True} if static else {}),
    }


def test_trainer_has_the_same_ddp_options_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    parts = Run("trainer", tmp_path, make_rows(16)).build()

    def handler(**changes: Any) -> Any:
        arguments = parts.trainer_arguments()
        for name, value in changes.items():
            setattr(arguments, name, value)
        trainer = SharedPartsTrainer(
            parts.batches, parts.objective, parts.optimizer, parts.schedule,
            accumulates=False, skip_nonfinite=False, model=parts.model, args=arguments,
        )  # fmt: skip
        return trainer.accelerator.ddp_handler

    assert handler().to_kwargs() == ddp_options(accumulates=False).to_kwargs()
    told = handler(ddp_find_unused_parameters=True, ddp_broadcast_buffers=True, ddp_bucket_cap_mb=7)
    assert told.to_kwargs() == {"gradient_as_bucket_view": True, "find_unused_parameters": True, "bucket_cap_mb": 7}


def test_the_generator_of_an_apple_gpu_is_saved_and_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mps" in generators.LEFT_OUT
    monkeypatch.setattr(generators, "LEFT_OUT", ("cpu",))
    monkeypatch.setattr(torch, "get_device_module", lambda device: torch.mps)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: torch.arange(5, dtype=torch.uint8))
    put_back: list[torch.Tensor] = []
    monkeypatch.setattr(torch.mps, "set_rng_state", put_back.append)
    settings: dict[str, Any] = {"rows": make_rows(16), "save_every": 1}
    run = Run("accelerate", tmp_path, num_epochs=1, **settings).train()
    assert put_back == []
    assert run.checkpoints.undamaged(run.checkpoints.path(2))
    Run("accelerate", tmp_path, num_epochs=2, resume=True, **settings).train()
    assert [numbers.tolist() for numbers in put_back] == [[0, 1, 2, 3, 4]]


def test_idle_gpus_are_mentioned_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from finetune_cli.system import devices

    monkeypatch.setattr(devices, "visible_gpus", lambda: 4)
    devices.mention_idle_gpus.cache_clear()
    with caplog.at_level(logging.INFO, logger="finetune_cli"):
        devices.mention_idle_gpus()
        devices.mention_idle_gpus()
    devices.mention_idle_gpus.cache_clear()
    assert caplog.messages == ["Training on 1 of 4 GPUs. To use all of them: --num-processes 4"]
