"""What a model is trained in, and what it answers in when it is trained."""

from pathlib import Path

import pytest
import torch

from finetune_cli.training.precision import CPU_BF16_FLAGS, inference_dtype, precision_of_cpu


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


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ({"GenuineIntel", "avx512_bf16", "amx_bf16"}, "bf16"),
        ({"GenuineIntel", "avx512_bf16"}, "no"),  # half the speed of fp32 there
        ({"AuthenticAMD", "avx512_bf16"}, "bf16"),
        ({"GenuineIntel", "avx512f"}, "no"),
        (set(), "no"),
    ],
)
def test_a_cpu_takes_bf16_where_that_is_native_and_gains_time(words: set[str], taken: str) -> None:
    assert precision_of_cpu(frozenset(words))[0] == taken


def test_bf16_that_was_asked_for_answers_in_bf16_where_it_is_native() -> None:
    """Faster or not: the scores are those that were logged in training."""
    flags = Path("/proc/cpuinfo")
    native = flags.exists() and not CPU_BF16_FLAGS.isdisjoint(flags.read_text(encoding="utf-8").split())
    assert inference_dtype("bf16", "cpu") is (torch.bfloat16 if native else None)
