"""What a trained model answers in."""

from pathlib import Path

import pytest
import torch

from finetune_cli.training.precision import CPU_BF16_FLAGS, inference_dtype


@pytest.mark.parametrize(
    ("requested", "device", "answers_in"),
    [
        ("fp32", "cuda", None),
        ("bf16", "cuda", torch.bfloat16),
        ("fp16", "cuda", torch.float16),
        ("fp32", "cpu", None),
        ("fp16", "cpu", None),
    ],
)
def test_a_model_answers_as_it_was_trained_where_the_device_can(
    requested: str, device: str, answers_in: torch.dtype | None
) -> None:
    assert inference_dtype(requested, device) is answers_in


@pytest.mark.parametrize("requested", ["auto", "bf16"])
def test_a_cpu_answers_in_bf16_only_where_that_is_native(requested: str) -> None:
    flags = Path("/proc/cpuinfo")
    native = flags.exists() and not CPU_BF16_FLAGS.isdisjoint(flags.read_text(encoding="utf-8").split())
    assert inference_dtype(requested, "cpu") is (torch.bfloat16 if native else None)
