"""The parts of a training run, built from its context: model, order of rows, batches, loss, optimizer, schedule."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.batching import EpochLoader, TrainingRows, UpdateSampler
from finetune_cli.data.order import RowOrder
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.models.anatomy import compile_layers
from finetune_cli.models.ready_mask import form_of_mask, takes_ready_mask
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.model_to_train import build_model, make_cheaper, require_supported_on
from finetune_cli.runs.validation import score_splits
from finetune_cli.system import xla
from finetune_cli.training.device_settings import DeviceSettings, apply_device_settings, choose_device_settings
from finetune_cli.training.generators import seed_generators
from finetune_cli.training.kept_predictions import KeptPredictions
from finetune_cli.training.monitor import Evaluate
from finetune_cli.training.objective import Objective, balanced_class_weights, row_losses
from finetune_cli.training.optimization import build_optimizer, build_schedule, count_updates
from finetune_cli.training.placing import place_before_optimizer
from finetune_cli.training.precision import choose_precision
from finetune_cli.training.progress import Cadence

if TYPE_CHECKING:
    from transformers import TrainingArguments

logger = logging.getLogger(__name__)

OPTIMIZER_ARGUMENTS = frozenset({"optim", "adam_beta1", "adam_beta2", "adam_epsilon"})
OUTSIDE_THE_STEP = frozenset({"adam_beta1", "adam_beta2", "adam_epsilon", "lr_scheduler_kwargs", "tf32"})


@dataclass(frozen=True)
class Parts:
    """What both loops are driven with; each part is made once.

    evaluate: scores the model on the validation splits, and leaves what it found of each row in `kept`.
    """

    context: RunContext
    device: torch.device
    device_settings: DeviceSettings
    mixed_precision: str
    micro_batch_size: int
    model: PreTrainedModel
    order: RowOrder
    cadence: Cadence
    evaluate: Evaluate
    kept: KeptPredictions

    @property
    def config(self) -> RunConfig:
        return self.context.config

    @property
    def loop(self) -> str:
        return self.config.training.loop

    @property
    def accumulates(self) -> bool:
        """Whether an update may take several micro-batches."""
        most = self.context.prepared.splits["train"].pieces.most_of(self.config.training.batch_size)
        at_once = self.micro_batch_size * PartialState().num_processes
        return self.config.training.micro_batch_tokens is not None or most > at_once

    @property
    def skip_nonfinite(self) -> bool:
        return self.config.training.on_nonfinite == "skip"

    def rows_of(self, step: int) -> tuple[np.ndarray, int]:
        """The row numbers and the token count of an update."""
        rows = self.order.update(step)
        return rows, int(self.order.lengths[rows].sum())

    @cached_property
    def optimizer(self) -> Optimizer:
        """AdamW, or the optimizer that `training.trainer_args` names."""
        settings = self.config.training
        chosen: dict[str, Any] = {}
        if OPTIMIZER_ARGUMENTS.intersection(settings.trainer_args):
            from transformers import Trainer

            optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(self.trainer_arguments(), self.model)
            chosen = {"optimizer_class": optimizer_class, "options": options}
        return build_optimizer(
            self.model,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=self.device_settings.fused_optimizer,
            **chosen,
        )

    @cached_property
    def schedule(self) -> LRScheduler:
        settings = self.config.training
        return build_schedule(
            self.optimizer,
            settings.lr_scheduler,
            num_updates=self.cadence.num_updates,
            warmup_steps=settings.warmup_steps,
            options=settings.trainer_args.get("lr_scheduler_kwargs"),
        )

    @cached_property
    def rows(self) -> TrainingRows:
        prepared, chosen = self.context.prepared, self.device_settings
        train, max_length = prepared.splits["train"], prepared.report.max_length
        return TrainingRows(
            train,
            train.known_labels(),
            pad_token_id=prepared.pad_token_id,
            multiple_of=chosen.width_multiple,
            length=max_length if self.config.data.padding == "max_length" else None,
            static_limit=max_length if chosen.few_widths else None,
            num_rows=xla.filled_up(self.micro_batch_size) if chosen.full_micro_batches else None,
            ready_mask=form_of_mask(self.model, ready=chosen.ready_mask, always=chosen.mask_always),
        )

    @cached_property
    def sampler(self) -> UpdateSampler:
        state = PartialState()
        return UpdateSampler(
            self.order,
            self.rows,
            micro_batch_size=self.micro_batch_size,
            max_tokens=self.config.training.micro_batch_tokens,
            at_least=-(-self.config.training.batch_size // self.micro_batch_size)
            if self.device_settings.few_widths
            else 0,
            num_processes=state.num_processes,
            process_index=state.process_index,
        )

    @cached_property
    def batches(self) -> EpochLoader:
        return EpochLoader(self.sampler, pin_memory=self.device_settings.pin_memory)

    @cached_property
    def objective(self) -> Objective:
        settings = self.config.training
        losses = row_losses(
            self.config.spec.kind,
            label_smoothing=settings.label_smoothing,
            class_weights=_class_weights(self.config, self.context.prepared),
            focal_gamma=settings.focal_gamma,
        )
        return Objective(losses, num_processes=PartialState().num_processes)

    def trainer_arguments(self) -> TrainingArguments:
        from finetune_cli.training import (
            trainer_loop,  # brings `datasets` and pandas, which the other loop does without
        )

        settings = self.config.training
        return trainer_loop.training_arguments(
            output_dir=self.context.run.path,
            num_updates=self.cadence.num_updates,
            micro_batch_size=self.micro_batch_size,
            learning_rate=settings.learning_rate,
            max_grad_norm=settings.max_grad_norm,
            mixed_precision=self.mixed_precision,
            seed=self.config.seed,
            extra={name: value for name, value in settings.trainer_args.items() if name != "lr_scheduler_kwargs"},
        )


def build_parts(context: RunContext, micro_batch_size: int, *, replay: bool = True) -> Parts:
    """Choose what fits the device and build the model; whatever needs the loop's accelerator comes later.

    replay: updates may be CUDA graphs.
    """
    config, settings = context.config, context.config.training
    device: torch.device = PartialState().device
    require_supported_on(device, config)
    mixed_precision = _choose_precision(config, device)
    order = RowOrder(
        context.prepared.splits["train"].pieces.row_tokens,
        batch_size=settings.batch_size,
        seed=config.seed,
        batching=settings.batching,
    )
    cadence = _cadence(config, order.updates_per_epoch)
    chosen = choose_device_settings(
        device.type,
        precision=settings.precision,
        mixed_precision=mixed_precision,
        compile_model=settings.compile,
        num_updates=cadence.num_updates,
        replay=replay and can_replay(config, mixed_precision),
    )
    if settings.micro_batch_tokens is not None and chosen.full_micro_batches:
        raise ConfigError(
            f"training.micro_batch_tokens: {device} is given few shapes of micro-batches, because each is compiled "
            f"anew. Use training.micro_batch_size there."
        )
    apply_device_settings(chosen)
    seed_generators(config.seed, device)  # the new head is drawn when the model is built
    model = build_model(context, device)
    make_cheaper(model, context, device)
    if chosen.ready_mask:
        takes_ready_mask(model)  # tried while the model is on the CPU and not compiled, and remembered
    if chosen.compile:
        compile_layers(model)
    place_before_optimizer(model, device)
    kept = KeptPredictions()
    evaluate = partial(score_splits, context, model, kept, compiled=chosen.compile)
    return Parts(context, device, chosen, mixed_precision, micro_batch_size, model, order, cadence, evaluate, kept)


def can_replay(config: RunConfig, mixed_precision: str) -> bool:
    """Whether updates may be CUDA graphs: one process, and nothing in an update that the host decides anew each time.

    fp16's scaler looks for overflows, packed rows have ever new shapes, recomputed layers put generators back, and
    what `training.trainer_args` asks for may be something that Trainer does in its own step.
    """
    settings = config.training
    by_host = settings.packing or settings.gradient_checkpointing or mixed_precision == "fp16"
    by_trainer = not OUTSIDE_THE_STEP.issuperset(settings.trainer_args)
    return settings.cuda_graphs and not by_host and not by_trainer and PartialState().num_processes == 1


def rows_at_once(config: RunConfig) -> int:
    """Rows that one device takes at once: as configured, or an equal share of the update."""
    share = -(-config.training.batch_size // PartialState().num_processes)
    chosen = config.training.micro_batch_size
    return share if chosen == "auto" else min(chosen, share)


def _choose_precision(config: RunConfig, device: torch.device) -> str:
    settings, processes = config.training, PartialState().num_processes
    narrow = config.model.dtype != "fp32"
    mixed_precision, reason = choose_precision(settings.precision, device.type, narrow_weights=narrow)
    where = f"{processes} x {device.type}" if processes > 1 else str(device)
    logger.info("Loop %s on %s, %s (%s)", settings.loop, where, precision_in_words(config, mixed_precision), reason)
    return mixed_precision


def precision_in_words(config: RunConfig, mixed_precision: str) -> str:
    """`fp32`, or `fp32, frozen weights in bf16` where the body is kept in another format."""
    frozen = "" if config.model.dtype == "fp32" else f", frozen weights in {config.model.dtype}"
    return mixed_precision.replace("no", "fp32") + frozen


def _cadence(config: RunConfig, updates_per_epoch: int) -> Cadence:
    settings, evaluation, checkpointing = config.training, config.evaluation, config.checkpointing
    return Cadence(
        count_updates(updates_per_epoch, num_epochs=settings.num_epochs, max_steps=settings.max_steps),
        updates_per_epoch,
        evaluate_every=None if evaluation.every == "epoch" else evaluation.every,
        save_every=None if checkpointing.every == "epoch" else checkpointing.every,
        save_every_seconds=checkpointing.every_seconds,
    )


def _class_weights(config: RunConfig, prepared: PreparedData) -> torch.Tensor | None:
    """The weight of each class (C,), on the device once, not for each micro-batch."""
    chosen, names = config.training.class_weights, prepared.label_names or ()
    if chosen is None:
        return None
    if chosen == "balanced":
        labels = torch.from_numpy(prepared.splits["train"].known_labels().copy())
        weights = balanced_class_weights(labels, len(names))
    else:
        if unknown := sorted(set(chosen) - set(names)):
            raise DataError(f"training.class_weights names {unknown}, but the classes are {list(names)}.")
        weights = torch.tensor([chosen.get(name, 1.0) for name in names])
    return weights.to(PartialState().device)
