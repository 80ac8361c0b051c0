"""The devices that torch sees, and what the settings mean there. `finetune doctor` runs this module as a process.

A driver that crashes, or a torch that cannot be imported, ends that process alone.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys

import torch
from torch.nn.attention import SDPBackend

from finetune_cli.records.doctor import Device, Torch
from finetune_cli.training.device_settings import COMPILED_BY_SHAPE, choose_device_settings
from finetune_cli.training.placing import device_name
from finetune_cli.training.precision import AUTOCAST_DTYPES, available_device, choose_precision

ROWS, HEADS, TOKENS, SIZE = 2, 12, 64, 64  # of the attention that is tried: a BERT base


def probe() -> Torch:
    chosen = available_device()
    count = torch.accelerator.device_count() if chosen.type not in ("cpu", "xla") else 0
    names = [torch.device(chosen.type, index) for index in range(count)] or [chosen]
    return Torch(
        version=torch.__version__,
        build=_build(),
        chosen=str(names[0]),
        threads=torch.get_num_threads(),
        devices=tuple(map(describe, names)),
    )


def _build() -> str:
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip else "CPU"


def describe(device: torch.device) -> Device:
    """What a training finds on this device; reads its memory, and runs nothing there but the choice of a kernel."""
    precision, reason = choose_precision("auto", device.type)
    settings = choose_device_settings(device.type, precision="auto", mixed_precision=precision, compile_model="auto")
    free, total = torch.cuda.mem_get_info(device) if device.type == "cuda" else (None, None)
    dtype = AUTOCAST_DTYPES[precision] or torch.float32
    return Device(
        name=torch.cuda.get_device_name(device) if device.type == "cuda" else device_name(device),
        memory_bytes=total,
        free_bytes=free,
        precision=precision.replace("no", "fp32"),
        reason=reason,
        attention={
            "training": attention_kernel(device, dtype, dropout=0.1),
            "scoring": attention_kernel(device, dtype, dropout=0.0),
        },
        compile=f"auto: {'on' if settings.compile else 'off'}; {compiler(device.type)}",
    )


def attention_kernel(device: torch.device, dtype: torch.dtype, *, dropout: float) -> str:
    """The kernel that scaled_dot_product_attention takes for padded rows, such as "flash" or "math"."""
    if device.type not in ("cpu", "cuda"):
        return "not known"
    query = torch.empty(ROWS, HEADS, TOKENS, SIZE, device=device, dtype=dtype)
    mask = torch.ones(ROWS, 1, 1, TOKENS, device=device, dtype=torch.bool).expand(-1, -1, TOKENS, -1)
    number = torch._fused_sdp_choice(query, query, query, attn_mask=mask, dropout_p=dropout, is_causal=False)
    names = {int(kernel.value): name for name, kernel in SDPBackend.__members__.items()}
    return names.get(number, f"number {number}").removesuffix("_ATTENTION").lower()


def compiler(device_type: str) -> str:
    """What `training.compile: true` needs on this kind of device, and whether it is there."""
    if device_type in COMPILED_BY_SHAPE:
        return "true is refused: it compiles by itself"
    if device_type == "cuda":
        try:
            import triton
        except ImportError:
            return "true needs triton, which is not installed"
        return f"true uses triton {triton.__version__}"
    compiler_there = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    return f"true uses {compiler_there}" if compiler_there else "true needs a C++ compiler, and there is none"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dataclasses.asdict(probe())) + "\n")
