"""What a finished update reports, on its way from the device to the host, and between processes, without a stall."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from finetune_cli.system import xla


@dataclass(frozen=True)
class Reading:
    """Of one update, the same on every process.

    loss: mean over the processes. signal_number: the highest that any process got, 0 for none. seconds_since_save: by
    the main process's clock.
    """

    loss: float
    grad_norm: float
    signal_number: int
    seconds_since_save: float


NOTHING_READ = Reading(loss=math.nan, grad_norm=math.nan, signal_number=0, seconds_since_save=0.0)


def send_reading(
    accelerator: Accelerator, loss: Tensor, grad_norm: Tensor, *, signal_number: int, seconds_since_save: float
) -> Callable[[], Reading]:
    """Start the exchange between processes (one collective) and the copy to the host; call the result to read.

    loss, grad_norm: 0-d, on the device. On CUDA reading waits for this copy alone, not for later work; elsewhere the
    device's values are fetched when they are read.
    """
    on_device = torch.stack([loss.detach().float(), grad_norm.detach().float().to(loss.device)])
    on_host = torch.tensor([float(signal_number), seconds_since_save])
    if accelerator.num_processes == 1:
        fetch = start_copy(on_device)
        return lambda: _read(torch.cat([fetch(), on_host]).view(1, -1))
    moved = (on_host.pin_memory() if loss.is_cuda else on_host).to(loss.device, non_blocking=True)
    fetch = start_copy(accelerator.gather(torch.cat([on_device, moved])))
    return lambda: _read(fetch().view(accelerator.num_processes, -1))


def _read(table: Tensor) -> Reading:
    """From the four values of each process (P, 4)."""
    return Reading(
        loss=table[:, 0].mean().item(),
        grad_norm=table[0, 1].item(),
        signal_number=int(table[:, 2].max()),
        seconds_since_save=table[0, 3].item(),
    )


def start_copy(values: Tensor) -> Callable[[], Tensor]:
    """Start to copy values to the host; the result waits for this copy alone, not for later work of the device.

    On XLA it starts what the values come from: an update, or the forward pass of a batch.
    """
    if not values.is_cuda:
        xla.run_collected(values.device)  # with all that led to the values
        return values.cpu
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def fetch() -> Tensor:
        copied.synchronize()
        return host

    return fetch
