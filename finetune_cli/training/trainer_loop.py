"""The training loop of transformers' Trainer, given our loss, order of rows, optimizer, schedule and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune_cli.system import xla
from finetune_cli.training.cuda_graphs import own_stream
from finetune_cli.training.generators import seed_generators
from finetune_cli.training.guards import clip_gradients
from finetune_cli.training.monitor import Monitor
from finetune_cli.training.objective import EpochBatches, Objective
from finetune_cli.training.placing import ddp_options, to_device
from finetune_cli.training.replay import replayed
from finetune_cli.training.state import use_bare_weight_names
from finetune_cli.training.update import MicroBatches, Update

TRAINER_STATE = "trainer_state.json"  # the name under which Trainer looks for its state in a checkpoint


def training_arguments(
    *,
    output_dir: Path,
    num_updates: int,
    micro_batch_size: int,
    learning_rate: float,
    max_grad_norm: float | None,
    mixed_precision: str,
    seed: int,
    extra: Mapping[str, Any],
) -> TrainingArguments:
    """The arguments of this run; what the monitor does (scoring, saving, writing logs) is switched off in Trainer."""
    arguments = TrainingArguments(
        **extra,
        output_dir=str(output_dir),
        max_steps=num_updates,
        per_device_train_batch_size=micro_batch_size,
        learning_rate=learning_rate,
        max_grad_norm=max_grad_norm or 0.0,  # Trainer's way to say: do not clip
        use_cpu=PartialState().device.type == "cpu",  # bf16 on a CPU is refused without it
        bf16=mixed_precision == "bf16",
        fp16=mixed_precision == "fp16",
        seed=seed,
        logging_strategy="no",  # a log fetches the loss, for which the device would have to finish first
        logging_nan_inf_filter=False,  # the filter looks at each loss at once
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    # Trainer would spread the model of one process over all GPUs that it sees, with torch's DataParallel: without
    # Accelerate's preparation, so in fp32 and with checkpoints that lack the weights.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class SharedPartsTrainer(Trainer):
    """Trainer with the batches and the loss that the Accelerate loop uses too."""

    def __init__(
        self,
        batches: EpochBatches,
        objective: Objective,
        optimizer: Optimizer,
        schedule: LRScheduler,
        *,
        accumulates: bool,
        skip_nonfinite: bool,
        replay: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.own_optimizer, self.own_schedule = optimizer, schedule
        self.batches = batches
        self.objective = objective
        self.accumulates = accumulates
        self.skip_nonfinite = skip_nonfinite
        self.replay = replay
        self.make_update: Callable[[MicroBatches], tuple[Tensor, Tensor]] | None = None
        self.update_loss = torch.zeros((), device=self.args.device)
        self.accelerator.ddp_handler = self._ddp_options()

    def _ddp_options(self) -> DistributedDataParallelKwargs:
        """As in the Accelerate loop, unless `training.trainer_args` says otherwise."""
        options, arguments = ddp_options(accumulates=self.accumulates), self.args
        if arguments.ddp_find_unused_parameters:
            options = replace(options, find_unused_parameters=True, static_graph=False)
        if arguments.ddp_broadcast_buffers is not None:
            options = replace(options, broadcast_buffers=arguments.ddp_broadcast_buffers)
        if arguments.ddp_bucket_cap_mb is not None:
            options = replace(options, bucket_cap_mb=arguments.ddp_bucket_cap_mb)
        return options

    def get_train_dataloader(self) -> Any:
        """Our loader as it is: it already holds this process's share of each update."""
        return self.batches

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """Ours; handed over here because Trainer refuses an optimizer at its construction when it shards the model."""
        self.optimizer = self.own_optimizer
        return self.optimizer

    def create_scheduler(self, *args: Any, **kwargs: Any) -> LRScheduler:
        self.lr_scheduler = self.own_schedule
        return self.lr_scheduler

    def training_step(self, model: Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Trainer's own step for each micro-batch of an update, of which it knows nothing: their number may vary.

        With CUDA graphs the whole update is made here; Trainer's own clipping and step then find no gradients.
        """
        if self.replay:
            return self._replayed_step(model, inputs)
        loss = torch.zeros((), device=self.args.device)
        for index, micro_batch in enumerate(inputs):
            is_last = index == len(inputs) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(model):
                loss += super().training_step(model, micro_batch)
            if not is_last:
                xla.run_collected(self.args.device)
        return loss

    def _replayed_step(self, model: Module, micro_batches: MicroBatches) -> Tensor:
        if self.make_update is None:
            self.make_update = replayed(
                Update(
                    self.accelerator,
                    model,
                    self.optimizer,
                    self.objective,
                    self.args.max_grad_norm or None,
                    self.skip_nonfinite,
                )
            )
        if not model.training:  # at first, and after scoring
            model.train()
        self.update_loss, self.grad_norm = self.make_update(micro_batches)
        return self.update_loss

    def compute_loss(
        self, model: Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        share = self.objective(model, inputs)
        self.update_loss += share.detach()
        return share

    def take_update_loss(self) -> Tensor:
        """The loss of the update just finished, over this process's rows.

        Summed here because Trainer resets its own sum by subtracting it from itself, so that one NaN stays for ever.
        """
        loss, self.update_loss = self.update_loss, torch.zeros_like(self.update_loss)
        return loss

    def save_own_state(self, directory: Path) -> None:
        """Into a checkpoint, where Trainer looks for it when it goes on."""
        self.state.save_to_json(str(directory / TRAINER_STATE))

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As in the Accelerate loop; Trainer itself waits for each tensor."""
        return to_device(inputs, self.args.device)

    def _get_num_items_in_batch(self, *args: Any) -> None:
        """Not counted: the batch says how many rows the update has, and Trainer would exchange its count each time."""

    def _clip_grad_norm(self, model: Module) -> Tensor:
        if not self.replay:
            self.grad_norm = clip_gradients(
                self.accelerator,
                model,
                self.optimizer,
                max_norm=self.args.max_grad_norm or None,
                skip_nonfinite=self.skip_nonfinite,
            )
        return self.grad_norm

    def _get_grad_norm(self, model: Module, grad_norm: Tensor | None = None) -> Tensor:
        """Trainer's second name for it, the only one that it calls when nothing is clipped."""
        return grad_norm if grad_norm is not None else self._clip_grad_norm(model)

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Not counted: Trainer's estimate walks over all parameters in each micro-batch."""
        return 0


class _NothingLeft(Exception):
    """The checkpoint that was restored is the run's last; Trainer would train one more update."""


class MonitorCallback(TrainerCallback):
    """Hands each finished update to the monitor, at the same point as the Accelerate loop does."""

    def __init__(self, trainer: SharedPartsTrainer, monitor: Monitor, *, seed: int) -> None:
        self.trainer = trainer
        self.monitor = monitor
        self.seed = seed

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        use_bare_weight_names(self.trainer.accelerator)
        seed_generators(self.seed, self.trainer.args.device, device_specific=True)
        if self.monitor.start():
            raise _NothingLeft

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.learning_rate = float(self.trainer.lr_scheduler.get_last_lr()[0])

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.trainer.accelerator.optimizer_step_was_skipped:  # fp16 overflowed: Trainer left the schedule alone, too
            self.trainer.lr_scheduler.step()
        over = self.monitor.after_update(
            loss=self.trainer.take_update_loss(),
            grad_norm=self.trainer.grad_norm,
            learning_rate=self.learning_rate,
        )
        control.should_training_stop = control.should_training_stop or over


def train(trainer: SharedPartsTrainer, monitor: Monitor, *, seed: int) -> None:
    """Train until the monitor says that it is over. The monitor has this trainer's accelerator and state."""
    trainer.remove_callback(PrinterCallback)  # prints Trainer's closing summary to stdout
    trainer.add_callback(MonitorCallback(trainer, monitor, seed=seed))
    with suppress(_NothingLeft), own_stream(trainer.args.device) if trainer.replay else nullcontext():
        trainer.train(resume_from_checkpoint=str(monitor.resume_from) if monitor.resume_from else None)
