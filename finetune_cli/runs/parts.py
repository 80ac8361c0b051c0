"""The parts of a training run, built from a config: model, order of rows, batches, loss, schedule, monitor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env, set_seed
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.batching import EpochLoader, TrainingRows, UpdateSampler, used_tokens
from finetune_cli.data.order import RowOrder, micro_batches_per_update
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.evaluation.scoring import ScoringRules, plain_scores
from finetune_cli.models import building, files, freezing, lora
from finetune_cli.models.last_layer import use_first_token_only
from finetune_cli.models.on_cpu import use_attention_for_cpu, use_fast_dropout
from finetune_cli.models.packing import pack_rows
from finetune_cli.models.used_rows import train_used_rows_only
from finetune_cli.records.training import EvalRecord
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.tasks import METRICS
from finetune_cli.training.checkpointing import Checkpoints
from finetune_cli.training.device_settings import DeviceSettings, choose_device_settings
from finetune_cli.training.monitor import BestRule, Cadence, Monitor
from finetune_cli.training.objective import Objective, balanced_class_weights, row_losses
from finetune_cli.training.optimization import build_schedule, count_updates
from finetune_cli.training.precision import choose_precision
from finetune_cli.training.stopping import StopRequest

logger = logging.getLogger(__name__)

Listener = Callable[[Any], None]
SHARDING = ("FSDP", "DEEPSPEED")  # as in Accelerate's environment variables


@dataclass(frozen=True)
class Parts:
    """What both loops are built from."""

    run: RunDir
    config: RunConfig
    prepared: PreparedData
    model: PreTrainedModel
    order: RowOrder
    monitor: Monitor
    device: torch.device
    device_settings: DeviceSettings
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


def build_parts(
    run: RunDir,
    config: RunConfig,
    prepared: PreparedData,
    rules: ScoringRules,
    micro_batch_size: int,
    stop: StopRequest,
    offline: bool,
    listen: Listener,
) -> Parts:
    settings, state = config.training, PartialState()
    device: torch.device = state.device
    mixed_precision, reason = choose_precision(settings.precision, device.type)
    where = f"{state.num_processes} x {device.type}" if state.num_processes > 1 else str(device)
    logger.info("Loop %s on %s, %s (%s)", settings.loop, where, mixed_precision.replace("no", "fp32"), reason)
    chosen = choose_device_settings(
        device.type,
        precision=settings.precision,
        mixed_precision=mixed_precision,
        compile_model=settings.compile,
    )
    if chosen.fp32_matmul is not None:
        torch.set_float32_matmul_precision(chosen.fp32_matmul)
    set_seed(config.seed)  # the new head is drawn when the model is built
    model = build_model(config, prepared, offline=offline)
    _make_cheaper(model, config, prepared, device)
    if chosen.compile:
        model.compile(dynamic=True)
    order = RowOrder(
        prepared.splits["train"].lengths, batch_size=settings.batch_size, seed=config.seed, batching=settings.batching
    )
    num_updates = count_updates(order.updates_per_epoch, num_epochs=settings.num_epochs, max_steps=settings.max_steps)
    monitor = _build_monitor(
        run, config, prepared, rules, model, order, num_updates, stop=stop, listen=listen, chosen=chosen
    )
    return Parts(run, config, prepared, model, order, monitor, device, chosen, mixed_precision, micro_batch_size)


def _make_cheaper(model: PreTrainedModel, config: RunConfig, prepared: PreparedData, device: torch.device) -> None:
    """What saves time and memory and trains the same model."""
    settings, arguments = config.training, config.training.trainer_args
    sharded = arguments.get("fsdp") or any(parse_flag_from_env(f"ACCELERATE_USE_{name}") for name in SHARDING)
    if device.type == "cpu" and not settings.compile:
        use_attention_for_cpu(model)
        use_fast_dropout(model)
    if settings.packing:
        if device.type == "xla":
            raise ConfigError("training.packing: XLA compiles anew for each shape. Set it to false on this device.")
        pack_rows(model)
    elif not sharded:
        use_first_token_only(model)
    leaves_zero_gradients_alone = str(arguments.get("optim", "adamw_torch")).startswith("adamw_torch")
    if leaves_zero_gradients_alone and not settings.weight_decay and not sharded:
        train_used_rows_only(model, used_tokens(prepared.splits["train"], prepared.pad_token_id))


def build_model(config: RunConfig, prepared: PreparedData, *, offline: bool) -> PreTrainedModel:
    """The classifier to train: its weights, and which of them are trained; adapters and recomputation as configured."""
    model = _load_or_create(config, prepared, offline=offline)
    freezing.freeze(model, config.model.freeze)
    if config.model.lora is not None:
        lora.add_lora(model, **config.model.lora.model_dump())
    if config.training.gradient_checkpointing:
        building.recompute_activations(model)
    return model


def _load_or_create(config: RunConfig, prepared: PreparedData, *, offline: bool) -> PreTrainedModel:
    """The classifier of this config: pretrained, or new with the sizes of `model.from_scratch`."""
    options: dict[str, Any] = {
        "kind": config.spec.kind,
        "label_names": prepared.label_names,
        "dropout": config.model.dropout,
        "attention_dropout": config.model.attention_dropout,
    }
    if config.model.from_scratch is not None:
        return building.build_from_scratch(
            config.model.from_scratch.model_dump(),
            vocab_size=files.vocabulary_size(prepared.tokenizer_dir),
            pad_token_id=prepared.pad_token_id,
            **options,
        )
    assert config.model.name_or_path is not None, "the config requires one of the two"
    directory = files.resolve_model(
        config.model.name_or_path,
        revision=config.model.revision,
        offline=offline,
        code=config.model.trust_remote_code,
    )
    return building.build_classifier(directory, trust_remote_code=config.model.trust_remote_code, **options)


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
    chosen: DeviceSettings,
) -> Monitor:
    evaluation, checkpointing, stopping = config.evaluation, config.checkpointing, config.training.early_stopping

    def rows_of(step: int) -> tuple[np.ndarray, int]:
        rows = order.update(step)
        return rows, int(order.lengths[rows].sum())

    def evaluate(step: int, epoch: float, check: Callable[[], None]) -> list[EvalRecord]:
        records = []
        for split in scored_splits(prepared):
            rows = prepared.splits[split]
            labels = rows.known_labels()
            # Uncompiled: any shape comes here, and `evaluate` on the saved model is to give the same score.
            with torch.compiler.set_stance("force_eager") if chosen.compile else nullcontext():
                logits = predict_logits(
                    model,
                    rows,
                    pad_token_id=prepared.pad_token_id,
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
            greater_is_better=METRICS[evaluation.metric_for_best].greater_is_better,
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
        lag=chosen.reading_lag,
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


def build_run_schedule(parts: Parts, optimizer: Optimizer) -> LRScheduler:
    settings = parts.config.training
    return build_schedule(
        optimizer,
        settings.lr_scheduler,
        num_updates=parts.monitor.cadence.num_updates,
        warmup_steps=settings.warmup_steps,
        options=settings.trainer_args.get("lr_scheduler_kwargs"),
    )


def build_batches(parts: Parts) -> EpochLoader:
    train, state, chosen = parts.prepared.splits["train"], PartialState(), parts.device_settings
    max_length = parts.prepared.report.max_length
    rows = TrainingRows(
        train,
        train.known_labels(),
        pad_token_id=parts.prepared.pad_token_id,
        multiple_of=chosen.width_multiple,
        length=max_length if parts.config.data.padding == "max_length" else None,
        static_limit=max_length if chosen.few_widths else None,
        num_rows=parts.micro_batch_size if chosen.full_micro_batches else None,
    )
    sampler = UpdateSampler(
        parts.order,
        micro_batch_size=parts.micro_batch_size,
        num_processes=state.num_processes,
        process_index=state.process_index,
    )
    return EpochLoader(rows, sampler, pin_memory=chosen.pin_memory)


def build_objective(config: RunConfig, prepared: PreparedData) -> Objective:
    settings, labels = config.training, torch.from_numpy(prepared.splits["train"].known_labels().copy())
    weights = None
    if settings.class_weights == "balanced":
        weights = balanced_class_weights(labels, len(prepared.label_names or ()))
    elif settings.class_weights is not None:
        weights = torch.tensor(_named_weights(settings.class_weights, prepared.label_names or ()))
    if weights is not None:
        weights = weights.to(PartialState().device)  # once, not for each micro-batch
    losses = row_losses(
        config.spec.kind,
        label_smoothing=settings.label_smoothing,
        class_weights=weights,
        focal_gamma=settings.focal_gamma,
    )
    return Objective(losses, num_processes=PartialState().num_processes)


def _named_weights(weights: dict[str, float], label_names: tuple[str, ...]) -> list[float]:
    if unknown := sorted(set(weights) - set(label_names)):
        raise DataError(f"training.class_weights names {unknown}, but the classes are {list(label_names)}.")
    return [weights.get(name, 1.0) for name in label_names]
