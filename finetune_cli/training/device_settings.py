"""What suits each kind of device, decided in one place and without touching the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

TENSOR_CORE_MULTIPLE = 8  # tensor cores want dimensions that are multiples of 8
GRAPH_MULTIPLE = 16  # half as many widths, each of which is a CUDA graph to record
# Compiling BERT-base's layers took 17 s on an H100, and saved 1.5 ms of an update of 32 rows and 8.4 of one of 256.
COMPILING_PAYS_FROM = 15_000  # updates
# oneDNN compiles each product in bf16 for its shape and keeps what it compiled: of widths that are multiples of 4 there
# are few enough. 120 updates of MiniLM took 340 MB less and no more time than with every width.
CPU_BF16_MULTIPLE = 4
COMPILED_BY_SHAPE = ("xla", "tpu")  # torch_xla's device, and that of torch_tpu, which is to replace it
UPDATES_AHEAD = 2  # one that computes and one that waits behind it keep a device busy


@dataclass(frozen=True)
class DeviceSettings:
    """compile: torch.compile the layers. fp32_matmul: for torch.set_float32_matmul_precision, None to leave it alone.

    pin_memory: batches lie in memory that the device can fetch by itself. width_multiple: rows are padded to a
    multiple of so many tokens; few_widths: to one of a few widths instead. full_micro_batches: a short one is filled
    up with rows that do not count. reading_lag: updates that may run before the loss of one is read. cudnn_attention:
    whether torch may choose cuDNN's attention kernel, None to leave that alone. It builds a plan for each new shape,
    for which the device waits, and can give NaN (pytorch/pytorch#196678).

    ready_mask: hand the model its attention mask as attention takes it, where the model can. mask_always: also where
    nothing is padded, which would be other kernels and so another graph. fused_optimizer: AdamW in one kernel. replay:
    whole updates are CUDA graphs; see training.replay. But for that, a GPU is given the same with and without graphs.

    The attention kernel itself is not decided here: transformers takes torch's scaled_dot_product_attention where the
    model supports it, and that chooses by device, mask and dropout.
    """

    compile: bool
    fp32_matmul: Literal["highest", "high"] | None
    pin_memory: bool
    width_multiple: int
    few_widths: bool
    full_micro_batches: bool
    reading_lag: int
    cudnn_attention: bool | None = None
    ready_mask: bool = False
    mask_always: bool = False
    fused_optimizer: bool = True
    replay: bool = False


def choose_device_settings(
    device_type: str,
    *,
    precision: str,
    mixed_precision: str,
    compile_model: bool | Literal["auto"],
    num_updates: int = 0,
    replay: bool = False,
) -> DeviceSettings:
    """precision: as configured; mixed_precision: what it came to. `auto` compiles on CUDA alone, for a training of
    enough updates: on a CPU it took minutes and gained little.

    fp32 that was asked for stays fp32; otherwise what mixed precision leaves in fp32 uses TF32 (10 bits of mantissa).
    TPUs compile anew for every shape, so they get few of them. A compiled model takes any width (dynamic=True), but a
    micro-batch of one row would be compiled anew. replay: whether CUDA graphs are wanted and possible.
    """
    on_cuda, on_tpu, on_cpu = device_type == "cuda", device_type in COMPILED_BY_SHAPE, device_type == "cpu"
    compiled = on_cuda and num_updates >= COMPILING_PAYS_FROM if compile_model == "auto" else compile_model
    reduced: Literal["highest", "high"] = "highest" if precision == "fp32" else "high"
    cpu_multiple = CPU_BF16_MULTIPLE if mixed_precision == "bf16" else 1
    return DeviceSettings(
        compile=compiled,
        fp32_matmul=reduced if on_cuda else None,
        pin_memory=on_cuda,
        width_multiple=cpu_multiple if on_cpu else GRAPH_MULTIPLE if on_cuda else TENSOR_CORE_MULTIPLE,
        few_widths=on_tpu,
        full_micro_batches=on_tpu or compiled,
        reading_lag=0 if on_cpu else UPDATES_AHEAD,
        cudnn_attention=False if on_cuda else None,
        ready_mask=on_cuda or on_tpu,
        mask_always=on_cuda or on_tpu,
        fused_optimizer=not on_tpu,
        replay=on_cuda and replay,
    )


def apply_device_settings(settings: DeviceSettings) -> None:
    """Set what torch keeps for the whole process: the precision of fp32 products, and the attention kernels allowed."""
    if settings.fp32_matmul is not None:
        torch.set_float32_matmul_precision(settings.fp32_matmul)
    if settings.cudnn_attention is not None:
        torch.backends.cuda.enable_cudnn_sdp(settings.cudnn_attention)
