"""Bringing models and batches to the device that computes with them, and gradients from one process to the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import DistributedDataParallelKwargs, send_to_device
from transformers import PreTrainedModel

from finetune_cli.system import xla


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch on the device; the copy of pinned memory goes on while the host does. Of several chips that are one
    device, each gets its share of the rows."""
    moved = send_to_device(dict(batch), device, non_blocking=True)
    return dict(xla.spread(moved)) if device.type == "xla" else moved


def place_before_optimizer(model: PreTrainedModel, device: torch.device) -> None:
    """Move a model whose parameters become other objects by that: an optimizer made before would train nothing."""
    if device.type == "xla":
        model.to(device)
        model.tie_weights()  # the move makes a copy of each name


def ddp_options(*, accumulates: bool) -> DistributedDataParallelKwargs:
    """How torch's DistributedDataParallel exchanges the gradients of our models: their buffers never change, and all
    their parameters take part in each update. accumulates: an update may have several micro-batches.

    gradient_as_bucket_view: gradients lie in the buffers of the exchange, without a second copy. broadcast_buffers:
    encoders only have constant ones, positions for example. static_graph: the same parameters get a gradient each time,
    so DDP plans the exchange once; not with accumulation, where micro-batches before the last exchange nothing.
    """
    return DistributedDataParallelKwargs(
        gradient_as_bucket_view=True,
        broadcast_buffers=False,
        static_graph=not accumulates,
    )


def device_name(device: torch.device) -> str:
    """Such as "cuda:0 (NVIDIA L4)", "xla:0 (4 x TPU)" or "cpu"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({xla.hardware()})" if device.type == "xla" else str(device)
