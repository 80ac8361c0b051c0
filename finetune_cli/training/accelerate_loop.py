"""The training loop written by hand on Accelerate."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from accelerate import Accelerator, skip_first_batches
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from finetune_cli.system import xla
from finetune_cli.training.generators import seed_generators
from finetune_cli.training.guards import clip_gradients
from finetune_cli.training.monitor import Monitor
from finetune_cli.training.objective import EpochBatches, Objective
from finetune_cli.training.placing import to_device
from finetune_cli.training.state import use_bare_weight_names


def train(
    accelerator: Accelerator,
    model: Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    batches: EpochBatches,
    objective: Objective,
    monitor: Monitor,
    *,
    max_grad_norm: float | None,
    seed: int,
) -> None:
    """Train until the monitor says that it is over.

    Each share of the loss is already divided by the rows of the whole update, and gradients are exchanged between
    processes once, with the update's last micro-batch. (Accelerate's `accumulate()`
    divides by the configured count, which is wrong for a short last window.) The schedule is not prepared: it moves
    once per update, not once per process, and also when a gradient overflowed in fp16 and the step was left out.
    """
    model, optimizer = accelerator.prepare(model, optimizer)
    use_bare_weight_names(accelerator)
    seed_generators(seed, accelerator.device, device_specific=True)
    over = monitor.start()
    while not over:
        epoch, updates_done = divmod(monitor.progress.step, monitor.cadence.updates_per_epoch)
        batches.set_epoch(epoch)
        for micro_batches in skip_first_batches(batches, updates_done):
            model.train()
            loss = torch.zeros((), device=accelerator.device)
            for index, batch in enumerate(micro_batches):
                is_last = index == len(micro_batches) - 1
                with nullcontext() if is_last else accelerator.no_sync(model):
                    share = objective(model, to_device(batch, accelerator.device))
                    accelerator.backward(share)
                loss += share.detach()
                if not is_last:
                    xla.run_collected(accelerator.device)
            grad_norm = clip_gradients(
                accelerator, model, optimizer, max_norm=max_grad_norm, skip_nonfinite=monitor.skip_nonfinite
            )
            learning_rate = float(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            over = monitor.after_update(loss=loss, grad_norm=grad_norm, learning_rate=learning_rate)
            if over:
                break
