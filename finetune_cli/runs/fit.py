"""Driving the chosen loop with the parts of a run, again with fewer rows at once when memory runs out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch.optim import Optimizer
from transformers import PreTrainedModel

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import RunFailedError
from finetune_cli.evaluation.scoring import ScoringRules
from finetune_cli.records.training import TrainingStarted
from finetune_cli.runs.parts import Listener, Parts, build_batches, build_objective, build_parts, build_run_schedule
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.system.signals import stop_error
from finetune_cli.training import accelerate_loop
from finetune_cli.training.checkpointing import Checkpoints, Progress
from finetune_cli.training.optimization import build_optimizer
from finetune_cli.training.stopping import StopRequest

if TYPE_CHECKING:
    from transformers import TrainingArguments

logger = logging.getLogger(__name__)

OPTIMIZER_ARGUMENTS = frozenset({"optim", "adam_beta1", "adam_beta2", "adam_epsilon"})


@dataclass(frozen=True)
class Fit:
    """How training went. `model`: the bare model as the last update left it; the best one is in the checkpoints."""

    progress: Progress
    epochs: float
    model: PreTrainedModel
    device: torch.device
    mixed_precision: str
    micro_batch_size: int


def fit(
    run: RunDir,
    config: RunConfig,
    prepared: PreparedData,
    rules: ScoringRules,
    *,
    checkpoint: Path | None,
    offline: bool,
    listen: Listener,
) -> Fit:
    """Train from the start or from `checkpoint` until the config's end; runs in every process of the group.

    When the device runs out of memory and `micro_batch_size` is auto, it goes on from the newest checkpoint with half
    the rows at once: the update keeps its rows, so the curve stays the same but for the dropout masks.
    """
    micro_batch_size = rows_at_once(config)
    stop = StopRequest()
    while True:
        parts = build_parts(run, config, prepared, rules, micro_batch_size, stop, offline, listen)
        if checkpoint is not None:
            logger.info("Going on from %s", checkpoint)
        listen(TrainingStarted(step_of(checkpoint), parts.monitor.cadence.num_updates, str(parts.device), parts.loop))
        try:
            with stop.listening():
                _DRIVERS[parts.loop](parts, checkpoint)
                if number := stop.agreed(parts.monitor.accelerator):
                    raise stop_error(number, "after the last update")
        except RuntimeError as err:
            if not should_reduce_batch_size(err):
                raise
            micro_batch_size = _smaller(micro_batch_size, config, err)
            checkpoint = Checkpoints(run.checkpoints, keep=config.checkpointing.keep).newest()
        else:
            progress = parts.monitor.progress
            epochs = parts.monitor.cadence.epoch(progress.step)
            return Fit(progress, epochs, parts.model, parts.device, parts.mixed_precision, micro_batch_size)
        finally:
            parts.monitor.close()
        del parts
        clear_device_cache(garbage_collection=True)


def _smaller(micro_batch_size: int, config: RunConfig, err: BaseException) -> int:
    """Half the rows, said aloud; RunFailedError when that is not possible or was not left to us."""
    if config.training.micro_batch_size != "auto" or micro_batch_size == 1 or PartialState().num_processes > 1:
        raise RunFailedError(
            f"Out of memory with {micro_batch_size} rows at once on each device. Set training.micro_batch_size lower "
            f"(accumulation keeps batch_size as it is), or data.max_length."
        ) from err
    half = -(-micro_batch_size // 2)
    logger.warning(
        "Out of memory with %d rows at once; going on with %d at once. An update keeps its %d rows.",
        micro_batch_size,
        half,
        config.training.batch_size,
    )
    return half


def rows_at_once(config: RunConfig) -> int:
    """Rows that one device takes at once: as configured, or an equal share of the update."""
    share = -(-config.training.batch_size // PartialState().num_processes)
    chosen = config.training.micro_batch_size
    return share if chosen == "auto" else min(chosen, share)


def _drive_accelerate(parts: Parts, checkpoint: Path | None) -> None:
    settings = parts.config.training
    optimizer = build_run_optimizer(parts)
    accelerate_loop.train(
        new_accelerator(parts.mixed_precision),
        parts.model,
        optimizer,
        build_run_schedule(parts, optimizer),
        build_batches(parts),
        build_objective(parts.config, parts.prepared),
        parts.monitor,
        micro_batches_per_update=parts.micro_batches_per_update,
        max_grad_norm=settings.max_grad_norm,
        seed=parts.config.seed,
        resume_from=checkpoint,
    )


def new_accelerator(mixed_precision: str) -> Accelerator:
    """An Accelerator that computes in this precision, whatever an earlier run of this process computed in.

    Accelerate keeps the first one's for the process; Trainer resets it in the same way.
    """
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed_precision)


def _drive_trainer(parts: Parts, checkpoint: Path | None) -> None:
    from finetune_cli.training import trainer_loop  # brings `datasets` and pandas, which the other loop does without

    optimizer = build_run_optimizer(parts)
    trainer_loop.train(
        _trainer_arguments(parts),
        parts.model,
        optimizer,
        build_run_schedule(parts, optimizer),
        build_batches(parts),
        build_objective(parts.config, parts.prepared),
        parts.monitor,
        seed=parts.config.seed,
        resume_from=checkpoint,
    )


def build_run_optimizer(parts: Parts) -> Optimizer:
    """AdamW, or the optimizer that `training.trainer_args` names."""
    settings = parts.config.training
    chosen: dict[str, Any] = {}
    if OPTIMIZER_ARGUMENTS.intersection(settings.trainer_args):
        from transformers import Trainer

        optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(_trainer_arguments(parts), parts.model)
        chosen = {"optimizer_class": optimizer_class, "options": options}
    return build_optimizer(
        parts.model, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay, **chosen
    )


def _trainer_arguments(parts: Parts) -> TrainingArguments:
    from finetune_cli.training import trainer_loop

    settings = parts.config.training
    return trainer_loop.training_arguments(
        output_dir=parts.run.path,
        num_updates=parts.monitor.cadence.num_updates,
        micro_batch_size=parts.micro_batch_size,
        micro_batches_per_update=parts.micro_batches_per_update,
        learning_rate=settings.learning_rate,
        max_grad_norm=settings.max_grad_norm,
        mixed_precision=parts.mixed_precision,
        seed=parts.config.seed,
        extra={name: value for name, value in settings.trainer_args.items() if name != "lr_scheduler_kwargs"},
    )


def step_of(checkpoint: Path | None) -> int:
    """The update after which a checkpoint was written; 0 for none."""
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0


_DRIVERS = {"trainer": _drive_trainer, "accelerate": _drive_accelerate}
