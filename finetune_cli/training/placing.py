"""Bringing models and batches to the device that computes with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import send_to_device
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


def device_name(device: torch.device) -> str:
    """Such as "cuda:0 (NVIDIA L4)", "xla:0 (4 x TPU)" or "cpu"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({xla.hardware()})" if device.type == "xla" else str(device)
