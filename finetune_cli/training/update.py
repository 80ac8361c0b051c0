"""One optimizer update: the forward and backward passes of its micro-batches, clipping, and the optimizer's step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from finetune_cli.system import xla
from finetune_cli.training.guards import clip_gradients
from finetune_cli.training.objective import Objective
from finetune_cli.training.placing import to_device

MicroBatches = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Update:
    """Call it with the micro-batches of an update. model and optimizer: as the accelerator prepared them."""

    accelerator: Accelerator
    model: Module
    optimizer: Optimizer
    objective: Objective
    max_grad_norm: float | None
    skip_nonfinite: bool = False

    def __call__(self, micro_batches: MicroBatches) -> tuple[Tensor, Tensor]:
        """Train on them; the loss of this process's rows, and the norm of the gradients before clipping: both 0-d and
        on the device."""
        loss = self.backward(micro_batches)
        grad_norm = clip_gradients(
            self.accelerator,
            self.model,
            self.optimizer,
            max_norm=self.max_grad_norm,
            skip_nonfinite=self.skip_nonfinite,
        )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, grad_norm

    def backward(self, micro_batches: MicroBatches) -> Tensor:
        """Leave the gradients of the update in the parameters; returns its loss.

        Each share of the loss is already divided by the rows of the whole update, and gradients are exchanged between
        processes once, with the update's last micro-batch. (Accelerate's `accumulate()` divides by the configured
        count, which is wrong for a short last window.)
        """
        device = self.accelerator.device
        loss = torch.zeros((), device=device)
        for index, micro_batch in enumerate(micro_batches):
            is_last = index == len(micro_batches) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                share = self.objective(self.model, to_device(micro_batch, device))
                self.accelerator.backward(share)
            loss += share.detach()
            if not is_last:
                xla.run_collected(device)
        return loss
