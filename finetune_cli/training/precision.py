"""Which number format a device computes in natively, and why one was chosen."""

from __future__ import annotations

from pathlib import Path

import torch

from finetune_cli.errors import MissingError
from finetune_cli.system import xla
from finetune_cli.training.device_settings import COMPILED_BY_SHAPE

CPU_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
INTEL = "GenuineIntel"
WITHOUT_FP16 = ("cpu", *COMPILED_BY_SHAPE)
AUTOCAST_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(requested: str, device_type: str, *, narrow_weights: bool = False) -> tuple[str, str]:
    """Accelerate's name for the mixed precision ("no", "bf16", "fp16") and the reason in words.

    "auto" takes bf16 where it is native and gains time, fp16 on older CUDA devices, else fp32. Raises MissingError for
    fp16 on a CPU, where it has no fast kernels and overflows, and on a TPU. narrow_weights: the frozen ones are kept in
    bf16, so that fp16 is nothing to take by itself.
    """
    if requested == "fp32":
        return "no", "as configured"
    if requested == "fp16" and device_type in WITHOUT_FP16:
        raise MissingError("training.precision: fp16 needs a GPU, and none is visible here. Use auto, fp32 or bf16.")
    if requested != "auto":
        return requested, "as configured"
    if device_type == "cpu":
        return precision_of_cpu(_cpu_words())
    if _has_native_bf16(device_type):
        return "bf16", f"this {device_type} computes bf16 natively"
    if device_type == "cuda" and not narrow_weights:
        return "fp16", "this GPU has no native bf16"
    return "no", f"this {device_type} has no native bf16"


def precision_of_cpu(words: frozenset[str]) -> tuple[str, str]:
    """What "auto" takes on the CPU whose /proc/cpuinfo has these words, and why.

    Emulated bf16 took 2.3 times as long as fp32. AVX-512's own takes longer, too, on Intel, which has two units for
    products in fp32 and one for those in bf16: torch.mm reached 165 GFLOP/s in place of 325 on a Sapphire Rapids whose
    AMX the virtual machine hides, and training MiniLM took 1.6 times as long. AMX, and AMD's AVX-512, are built for it.
    """
    if words.isdisjoint(CPU_BF16_FLAGS):
        return "no", "this cpu has no native bf16"
    if INTEL in words and "amx_bf16" not in words:
        return "no", "without AMX an Intel cpu is faster in fp32 than in bf16"
    return "bf16", "this cpu computes bf16 natively"


def inference_dtype(requested: str, device_type: str, *, narrow_weights: bool = False) -> torch.dtype | None:
    """The type that a trained model answers in, None for its weights' fp32: as it was trained, where that is native.

    A model that was trained in bf16 or fp16 on a GPU answers in fp32 on a CPU without it: there both would be slow.
    """
    if requested == "fp16" and device_type in WITHOUT_FP16:
        return None
    if requested == "bf16" and device_type in ("cpu", "xla") and not _has_native_bf16(device_type):
        return None
    return AUTOCAST_DTYPES[choose_precision(requested, device_type, narrow_weights=narrow_weights)[0]]


def _has_native_bf16(device_type: str) -> bool:
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        return not CPU_BF16_FLAGS.isdisjoint(_cpu_words())
    if device_type == "xla":
        return xla.has_native_bf16()
    return device_type == "tpu"


def _cpu_words() -> frozenset[str]:
    """The words of Linux's description of this CPU, among them its maker and its abilities; none elsewhere."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return frozenset()


def available_device() -> torch.device:
    """The device that a single process uses: an accelerator when torch sees one, else the CPU."""
    if xla.in_use():
        return xla.start()
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")
