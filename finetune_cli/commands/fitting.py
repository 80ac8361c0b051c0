"""Building the parts of a training run from a config, and driving the chosen loop with them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, Trainer

from finetune_cli import modeling
from finetune_cli.config import RunConfig
from finetune_cli.data.batching import EpochLoader, RowOrder, TrainingRows, UpdateSampler, micro_batches_per_update
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import DataError, RunFailedError
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.evaluation.scoring import ScoringRules, plain_scores
from finetune_cli.records import EvalRecord, TrainingStarted
from finetune_cli.run_dir import RunDir
from finetune_cli.signals import stop_error
from finetune_cli.tasks import METRICS
from finetune_cli.training import accelerate_loop, trainer_loop
from finetune_cli.training.checkpointing import Checkpoints, Progress
from finetune_cli.training.monitor import BestRule, Cadence, Monitor
from finetune_cli.training.objective import Objective, balanced_class_weights, row_losses
from finetune_cli.training.optimization import build_optimizer, build_schedule, count_updates
from finetune_cli.training.precision import choose_precision
from finetune_cli.training.stopping import StopRequest

logger = logging.getLogger(__name__)

Listener = Callable[[Any], None]
OPTIMIZER_ARGUMENTS = frozenset({"optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon"})
DEVICE_PADDING_MULTIPLE = 8  # tensor cores want dimensions that are multiples of 8


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
    micro_batch_size = _micro_batch_size(config)
    stop = StopRequest()
    while True:
        parts = _build_parts(run, config, prepared, rules, micro_batch_size, stop, offline, listen)
        listen(TrainingStarted(step_of(checkpoint), parts.monitor.cadence.num_updates, str(parts.device), parts.loop))
        try:
            with stop.listening():
                _DRIVERS[parts.loop](parts, checkpoint)
                if number := stop.agreed(parts.monitor.accelerator):
                    raise stop_error(number, "after the last update")
        except (RuntimeError, MemoryError) as err:
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


@dataclass(frozen=True)
class _Parts:
    """What both loops are built from."""

    run: RunDir
    config: RunConfig
    prepared: PreparedData
    model: PreTrainedModel
    order: RowOrder
    monitor: Monitor
    device: torch.device
    mixed_precision: str
    micro_batch_size: int

    @property
    def loop(self) -> str:
        return self.config.training.loop

    @property
    def micro_batches_per_update(self) -> int:
        return micro_batches_per_update(
            self.config.training.batch_size, self.micro_batch_size, PartialState().num_processes
        )


def _build_parts(
    run: RunDir,
    config: RunConfig,
    prepared: PreparedData,
    rules: ScoringRules,
    micro_batch_size: int,
    stop: StopRequest,
    offline: bool,
    listen: Listener,
) -> _Parts:
    settings, state = config.training, PartialState()
    device: torch.device = state.device
    mixed_precision, reason = choose_precision(settings.precision, device.type)
    logger.info("Loop %s on %s, %s (%s)", settings.loop, device, mixed_precision.replace("no", "fp32"), reason)
    set_seed(config.seed)  # the new head is drawn when the model is built
    model = build_model(config, prepared, offline=offline)
    if settings.compile is True or (settings.compile == "auto" and device.type == "cuda"):
        model.compile(dynamic=True)
    order = RowOrder(
        prepared.splits["train"].lengths, batch_size=settings.batch_size, seed=config.seed, batching=settings.batching
    )
    num_updates = count_updates(order.updates_per_epoch, num_epochs=settings.num_epochs, max_steps=settings.max_steps)
    monitor = _build_monitor(run, config, prepared, rules, model, order, num_updates, stop=stop, listen=listen)
    return _Parts(run, config, prepared, model, order, monitor, device, mixed_precision, micro_batch_size)


def build_model(config: RunConfig, prepared: PreparedData, *, offline: bool) -> PreTrainedModel:
    """The classifier of this config: pretrained, or new with the sizes of `model.from_scratch`."""
    options: dict[str, Any] = {
        "kind": config.spec.kind,
        "label_names": prepared.label_names,
        "dropout": config.model.dropout,
        "attention_dropout": config.model.attention_dropout,
    }
    if config.model.from_scratch is not None:
        return modeling.build_from_scratch(
            config.model.from_scratch.model_dump(),
            vocab_size=modeling.vocabulary_size(prepared.tokenizer_dir),
            pad_token_id=modeling.pad_token_id(prepared.tokenizer_dir),
            **options,
        )
    assert config.model.name_or_path is not None, "the config requires one of the two"
    directory = modeling.resolve_model(config.model.name_or_path, revision=config.model.revision, offline=offline)
    return modeling.build_classifier(directory, trust_remote_code=config.model.trust_remote_code, **options)


def _build_monitor(
    run: RunDir,
    config: RunConfig,
    prepared: PreparedData,
    rules: ScoringRules,
    model: PreTrainedModel,
    order: RowOrder,
    num_updates: int,
    *,
    stop: StopRequest,
    listen: Listener,
) -> Monitor:
    evaluation, checkpointing, stopping = config.evaluation, config.checkpointing, config.training.early_stopping
    pad_token_id = modeling.pad_token_id(prepared.tokenizer_dir)

    def rows_of(step: int) -> tuple[np.ndarray, int]:
        rows = order.update(step)
        return rows, int(order.lengths[rows].sum())

    def evaluate(step: int, epoch: float, check: Callable[[], None]) -> list[EvalRecord]:
        records = []
        for split in scored_splits(prepared):
            rows = prepared.splits[split]
            labels = rows.known_labels()
            logits = predict_logits(
                model,
                rows,
                pad_token_id=pad_token_id,
                device=model.device,
                accelerator=monitor.accelerator,
                check=check,
            )
            records.append(EvalRecord(step, epoch, split, *plain_scores(logits, labels, rules)))
        return records

    monitor = Monitor(
        cadence=Cadence(
            num_updates,
            order.updates_per_epoch,
            evaluate_every=None if evaluation.every == "epoch" else evaluation.every,
            save_every=None if checkpointing.every == "epoch" else checkpointing.every,
            save_every_seconds=checkpointing.every_seconds,
        ),
        best_rule=BestRule(
            evaluation.metric_for_best,
            greater_is_better=evaluation.metric_for_best not in METRICS
            or METRICS[evaluation.metric_for_best].greater_is_better,
            patience=stopping.patience if stopping else None,
            min_delta=stopping.min_delta if stopping else 0.0,
        ),
        checkpoints=Checkpoints(run.checkpoints, keep=checkpointing.keep),
        history_path=run.history,
        rows_of=rows_of,
        evaluate=evaluate,
        stop=stop,
        skip_nonfinite=config.training.on_nonfinite == "skip",
        listen=listen,
    )
    return monitor


def scored_splits(prepared: PreparedData) -> list[str]:
    """The validation splits, "validation" first: what training is steered by and reports at the end."""
    splits = [
        name for name, split in prepared.splits.items() if name.startswith("validation") and split.labels is not None
    ]
    if "validation" not in splits:
        raise DataError("The validation split has no labels, so no best model can be chosen.")
    return sorted(splits, key=lambda name: name != "validation")


def _drive_accelerate(parts: _Parts, checkpoint: Path | None) -> None:
    settings = parts.config.training
    optimizer = build_optimizer(parts.model, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay)
    accelerate_loop.train(
        Accelerator(mixed_precision=parts.mixed_precision),
        parts.model,
        optimizer,
        _schedule(parts, optimizer),
        _batches(parts),
        _objective(parts.config, parts.prepared),
        parts.monitor,
        micro_batches_per_update=parts.micro_batches_per_update,
        max_grad_norm=settings.max_grad_norm,
        seed=parts.config.seed,
        resume_from=checkpoint,
    )


def _drive_trainer(parts: _Parts, checkpoint: Path | None) -> None:
    config, settings = parts.config, parts.config.training
    extra = {name: value for name, value in settings.trainer_args.items() if name != "lr_scheduler_kwargs"}
    arguments = trainer_loop.training_arguments(
        output_dir=parts.run.path,
        num_updates=parts.monitor.cadence.num_updates,
        micro_batch_size=parts.micro_batch_size,
        micro_batches_per_update=parts.micro_batches_per_update,
        learning_rate=settings.learning_rate,
        max_grad_norm=settings.max_grad_norm,
        mixed_precision=parts.mixed_precision,
        seed=config.seed,
        extra=extra,
    )
    chosen: dict[str, Any] = {}
    if OPTIMIZER_ARGUMENTS.intersection(extra):
        optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(arguments, parts.model)
        chosen = {"optimizer_class": optimizer_class, "options": options}
    optimizer = build_optimizer(
        parts.model, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay, **chosen
    )
    trainer_loop.train(
        arguments,
        parts.model,
        optimizer,
        _schedule(parts, optimizer),
        _batches(parts),
        _objective(config, parts.prepared),
        parts.monitor,
        seed=config.seed,
        resume_from=checkpoint,
    )


def _schedule(parts: _Parts, optimizer: Optimizer) -> LRScheduler:
    settings = parts.config.training
    return build_schedule(
        optimizer,
        settings.lr_scheduler,
        num_updates=parts.monitor.cadence.num_updates,
        warmup_steps=settings.warmup_steps,
        options=settings.trainer_args.get("lr_scheduler_kwargs"),
    )


def _batches(parts: _Parts) -> EpochLoader:
    train, state = parts.prepared.splits["train"], PartialState()
    rows = TrainingRows(
        train,
        train.known_labels(),
        pad_token_id=modeling.pad_token_id(parts.prepared.tokenizer_dir),
        multiple_of=1 if state.device.type == "cpu" else DEVICE_PADDING_MULTIPLE,
        length=parts.prepared.report["max_length"] if parts.config.data.padding == "max_length" else None,
    )
    sampler = UpdateSampler(
        parts.order,
        micro_batch_size=parts.micro_batch_size,
        num_processes=state.num_processes,
        process_index=state.process_index,
    )
    return EpochLoader(rows, sampler, pin_memory=state.device.type == "cuda")


def _objective(config: RunConfig, prepared: PreparedData) -> Objective:
    settings, labels = config.training, torch.from_numpy(prepared.splits["train"].known_labels().copy())
    weights = None
    if settings.class_weights == "balanced":
        weights = balanced_class_weights(labels, len(prepared.label_names or ()))
    elif settings.class_weights is not None:
        weights = torch.tensor(_named_weights(settings.class_weights, prepared.label_names or ()))
    losses = row_losses(config.spec.kind, label_smoothing=settings.label_smoothing, class_weights=weights)
    return Objective(losses, num_processes=PartialState().num_processes)


def _named_weights(weights: dict[str, float], label_names: tuple[str, ...]) -> list[float]:
    if unknown := sorted(set(weights) - set(label_names)):
        raise DataError(f"training.class_weights names {unknown}, but the classes are {list(label_names)}.")
    return [weights.get(name, 1.0) for name in label_names]


def _micro_batch_size(config: RunConfig) -> int:
    """Rows that one device takes at once: as configured, or an equal share of the update."""
    share = -(-config.training.batch_size // PartialState().num_processes)
    chosen = config.training.micro_batch_size
    return share if chosen == "auto" else min(chosen, share)


def step_of(checkpoint: Path | None) -> int:
    """The update after which a checkpoint was written; 0 for none."""
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0


_DRIVERS = {"trainer": _drive_trainer, "accelerate": _drive_accelerate}
