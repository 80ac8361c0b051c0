"""Keeping a bad batch from ruining the weights: clipping, and leaving out an update that is not finite."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

# Gradients that lie in shards, or that the library reduces or clips in its own way.
LEFT_TO_ACCELERATE = {
    DistributedType.FSDP,
    DistributedType.DEEPSPEED,
    DistributedType.MEGATRON_LM,
    DistributedType.XLA,
}


def clip_gradients(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Optimizer,
    *,
    max_norm: float | None,
    skip_nonfinite: bool = False,
) -> Tensor:
    """Have the coming step use gradients of at most this norm; returns their total norm before, a tensor (0-d).

    `torch.nn.utils.clip_grad_norm_` multiplies all gradients in a pass of its own. A fused optimizer divides by
    `grad_scale` while it reads them anyway, and leaves every weight and moment as it is when `found_inf` is 1: that is
    how `skip_nonfinite` works, and neither waits for the device. Other optimizers, fp16 (whose scaler needs these
    fields for itself) and sharded models go the ordinary way, where skip_nonfinite has to read the norm.
    """
    bare = bare_optimizer(optimizer)
    if not step_can_scale(accelerator, bare):
        norm = _as_tensor(accelerator.clip_grad_norm_(model.parameters(), max_norm or math.inf))
        if skip_nonfinite and not norm.isfinite():
            _drop_gradients(model)
        return norm
    trained = [parameter for group in bare.param_groups for parameter in group["params"]]
    norm = get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
    if max_norm is not None:
        bare.grad_scale = ((norm + 1e-6) / max_norm).clamp(min=1)  # 1e-6: as in clip_grad_norm_
    if skip_nonfinite:
        bare.found_inf = norm.isfinite().logical_not().float()
    return norm


def _as_tensor(norm: Any) -> Tensor:
    """DeepSpeed gives a number, FSDP 2 a tensor in shards."""
    return torch.as_tensor(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def bare_optimizer(optimizer: Any) -> Any:
    """torch's own, without Accelerate's wrapper."""
    while isinstance(optimizer, AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    return optimizer


def step_can_scale(accelerator: Accelerator, optimizer: Any) -> bool:
    """Whether `step` honours grad_scale and found_inf: torch marks its fused optimizers so, for GradScaler."""
    fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    return fused and accelerator.scaler is None and accelerator.distributed_type not in LEFT_TO_ACCELERATE


def _drop_gradients(model: nn.Module) -> None:
    """An optimizer skips parameters without a gradient, moments included; zeros would still move the weights."""
    for parameter in model.parameters():
        parameter.grad = None
