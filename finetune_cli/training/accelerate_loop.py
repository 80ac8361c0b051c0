"""The training loop written by hand on Accelerate."""

from __future__ import annotations

from contextlib import nullcontext

from accelerate import Accelerator, skip_first_batches
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from finetune_cli.training.cuda_graphs import own_stream
from finetune_cli.training.monitor import Monitor
from finetune_cli.training.objective import EpochBatches, Objective
from finetune_cli.training.replay import replayed
from finetune_cli.training.state import seed_generators, use_bare_weight_names
from finetune_cli.training.update import Update


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
    replay: bool = False,
) -> None:
    """Train until the monitor says that it is over.

    The schedule is not prepared: it moves once per update, not once per process, and also when a gradient overflowed in
    fp16 and the step was left out. replay: updates are CUDA graphs, see training.replay.
    """
    with own_stream(accelerator.device) if replay else nullcontext():
        bare = model
        model, optimizer = accelerator.prepare(model, optimizer)
        use_bare_weight_names(accelerator)
        seed_generators(seed, accelerator.device, device_specific=True)
        update = Update(accelerator, model, optimizer, objective, max_grad_norm, monitor.skip_nonfinite)
        make_update = replayed(update) if replay else update
        over = monitor.start()
        while not over:
            epoch, updates_done = divmod(monitor.progress.step, monitor.cadence.updates_per_epoch)
            batches.set_epoch(epoch)
            for micro_batches in skip_first_batches(batches, updates_done):
                if not bare.training:  # at first, and after scoring
                    model.train()
                learning_rate = float(schedule.get_last_lr()[0])
                loss, grad_norm = make_update(micro_batches)
                schedule.step()
                over = monitor.after_update(loss=loss, grad_norm=grad_norm, learning_rate=learning_rate)
                if over:
                    break
