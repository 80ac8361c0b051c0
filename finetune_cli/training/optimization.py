"""Optimizer, schedule and the number of updates, shared by both loops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler


def count_updates(updates_per_epoch: int, *, num_epochs: float, max_steps: int | None) -> int:
    """Updates of the whole run; `max_steps` wins over `num_epochs`, whose last epoch may be a part of one."""
    return max_steps or max(1, math.ceil(num_epochs * updates_per_epoch))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and normalisation weights (one dimension) do not, as in transformers' Trainer."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


def build_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    fused: bool = True,
    optimizer_class: type[Optimizer] = torch.optim.AdamW,
    options: Mapping[str, Any] | None = None,
) -> Optimizer:
    """AdamW in its fused form (8 times faster than the plain one on a CPU), or the class that the caller names.

    fused: False for a device without that kernel.
    """
    defaults: dict[str, Any] = {"fused": fused} if optimizer_class is torch.optim.AdamW else {}
    settings = {**defaults, **(options or {}), "lr": learning_rate}
    return optimizer_class(parameter_groups(model, weight_decay), **settings)


def build_schedule(
    optimizer: Optimizer,
    name: str,
    *,
    num_updates: int,
    warmup_steps: float,
    options: Mapping[str, Any] | None = None,
) -> LRScheduler:
    """transformers' schedule of that name, stepped once per update whatever the number of processes.

    warmup_steps: updates, or a share of `num_updates` when it is below 1.
    """
    warmup = math.ceil(warmup_steps * num_updates) if 0 < warmup_steps < 1 else int(warmup_steps)
    return get_scheduler(
        name,
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=num_updates,
        scheduler_specific_kwargs=dict(options or {}),
    )
