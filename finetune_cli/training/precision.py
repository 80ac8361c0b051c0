"""Which number format a device computes in natively, and why one was chosen."""

from __future__ import annotations

from pathlib import Path

import torch

from finetune_cli.errors import MissingError

CPU_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
AUTOCAST_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(requested: str, device_type: str) -> tuple[str, str]:
    """Accelerate's name for the mixed precision ("no", "bf16", "fp16") and the reason in words.

    "auto" takes bf16 where it is native, fp16 on older CUDA devices, else fp32: emulated bf16 took 2.3 times as long as
    fp32 on a CPU without AMX. Raises MissingError for fp16 on a CPU, where it has no fast kernels and overflows.
    """
    if requested == "fp32":
        return "no", "as configured"
    if requested == "fp16" and device_type == "cpu":
        raise MissingError("training.precision: fp16 needs a GPU, and none is visible here. Use auto, fp32 or bf16.")
    if requested != "auto":
        return requested, "as configured"
    if _has_native_bf16(device_type):
        return "bf16", f"this {device_type} computes bf16 natively"
    if device_type == "cuda":
        return "fp16", "this GPU has no native bf16"
    return "no", f"this {device_type} has no native bf16"


def inference_dtype(requested: str, device_type: str) -> torch.dtype | None:
    """The type that a trained model answers in, None for its weights' fp32: as it was trained, where that is native.

    A model that was trained in bf16 or fp16 on a GPU answers in fp32 on a CPU without it: there both would be slow.
    """
    if requested == "fp16" and device_type == "cpu":
        return None
    if requested == "bf16" and device_type == "cpu" and not _has_native_bf16(device_type):
        return None
    return AUTOCAST_DTYPES[choose_precision(requested, device_type)[0]]


def _has_native_bf16(device_type: str) -> bool:
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        try:
            return not CPU_BF16_FLAGS.isdisjoint(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
        except OSError:
            return False
    return device_type == "xla"


def available_device() -> torch.device:
    """The device that a single process uses: an accelerator when torch sees one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")
