"""`finetune train --dry-run`: a few real updates on a model that is thrown away, and what the whole run would take."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from statistics import mean, median

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import PreTrainedModel

from finetune_cli.commands.folds import fold_config
from finetune_cli.commands.seeds import seed_config
from finetune_cli.config.fields import RunConfig
from finetune_cli.data.order import MicroBatch, RowOrder
from finetune_cli.errors import ConfigError, RunFailedError, counted
from finetune_cli.models.building import recompute_activations
from finetune_cli.models.freezing import count_weights
from finetune_cli.records.training import DryRunReport, MemoryEstimate
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.fit import new_accelerator, too_many_tokens
from finetune_cli.runs.on_device import precision_in_words, rows_at_once
from finetune_cli.runs.parts import OPTIMIZER_ARGUMENTS, Parts, build_parts
from finetune_cli.runs.rows import prepare_rows
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.scoring import scoring_rules
from finetune_cli.runs.validation import logits_in_training, scored_splits
from finetune_cli.system import xla
from finetune_cli.system.launching import join_group, launched_processes
from finetune_cli.system.machine import describe_cpu
from finetune_cli.system.provenance import peak_memory_bytes
from finetune_cli.training.memory import estimate_memory, kept_bytes
from finetune_cli.training.placing import to_device
from finetune_cli.training.update import Update

logger = logging.getLogger(__name__)

TIMED_UPDATES = 10
EVALUATED_TOKENS = 16384  # 2 seconds of MiniLM on two cores
APPLIED_ARGUMENTS = OPTIMIZER_ARGUMENTS | {"lr_scheduler_kwargs"}  # the schedule costs no time


def dry_run(config: RunConfig, *, offline: bool = False) -> DryRunReport:
    """Measure what training this config takes, on one process; the run directory is neither read nor written.

    The rows are prepared first, as `prepare` does. Then come one update with the longest rows of all, twice, for the
    memory, and updates over all lengths, for the time. Raises what `train` raises on the way to its first
    update; RunFailedError when memory runs out with a `training.micro_batch_size` that was given, and says what fits.
    """
    if launched_processes() > 1:
        raise ConfigError("--dry-run measures one process. Start it without a launcher.")
    if config.training.learning_curve:
        raise ConfigError(
            "--dry-run measures one training, and those of a learning curve differ. Measure the longest: "
            f"-s training.learning_curve=null -s data.share={config.training.learning_curve[-1]:g}"
        )
    first, num_runs = _one_of_several(config)
    prepared = prepare_rows(first, offline=offline, once=True)
    join_group()
    if left_out := sorted(first.training.trainer_args.keys() - APPLIED_ARGUMENTS):
        logger.warning("Left out of this measurement, as the Trainer alone can do it: %s", ", ".join(left_out))
    rules = scoring_rules(first, prepared)
    context = RunContext(RunDir(first.output_dir), first, prepared, rules, offline, listen=lambda event: None)
    asked, program = rows_at_once(first), peak_memory_bytes()
    rows = asked
    while True:
        try:
            report = _measure(build_parts(context, rows), num_runs=num_runs, program=program)
        except RuntimeError as err:
            if not should_reduce_batch_size(err):
                raise
            if (tokens := first.training.micro_batch_tokens) is not None:
                raise too_many_tokens(tokens) from err
            if rows == 1:
                raise RunFailedError(
                    "Out of memory with a single row. Set data.max_length, or take a smaller model."
                ) from err
            rows = -(-rows // 2)
        else:
            break
        clear_device_cache(garbage_collection=True)
    if rows < asked:
        _say_what_fits(first, asked, rows)
    return report


def _one_of_several(config: RunConfig) -> tuple[RunConfig, int]:
    """The config of the first seed or fold, and how many of them there are."""
    folds, seeds = config.data.folds, config.training.seeds
    if folds is not None and folds.fold is None:
        return fold_config(config, 1), folds.n * folds.repeats
    return (seed_config(config, seeds[0]), len(seeds)) if seeds else (config, 1)


def _say_what_fits(config: RunConfig, asked: int, rows: int) -> None:
    if config.training.micro_batch_size != "auto":
        raise RunFailedError(
            f"Out of memory with {counted(asked, 'row')} at once; {rows} will do. Type: "
            f"-s training.micro_batch_size={rows} (accumulation keeps batch_size as it is)."
        )
    logger.warning("Out of memory with %d rows at once; the run would take %d.", asked, rows)


def _measure(parts: Parts, *, num_runs: int, program: int) -> DryRunReport:
    updater = Updater(parts)
    longest = np.argsort(-parts.order.lengths, kind="stable")[: parts.order.batch_size]
    estimate = updater.estimate_memory(longest, program=program if parts.device.type == "cpu" else 0)
    _warn_of_little_memory(estimate, parts)
    updater.seconds(longest)
    seconds_longest = updater.seconds(longest)  # once more: by now the optimizer holds its averages
    seconds = [updater.seconds(rows) for rows in _typical_updates(parts.order)]
    evaluation_seconds = sum(_evaluation_seconds(parts, split) for split in scored_splits(parts.context.prepared))
    cadence, model = parts.cadence, parts.model
    evaluations = -(-cadence.num_updates // (cadence.evaluate_every or cadence.updates_per_epoch)) + 1
    on_cuda = parts.device.type == "cuda"
    return DryRunReport(
        device=torch.cuda.get_device_name(parts.device) if on_cuda else str(parts.device),
        precision=precision_in_words(parts.context.config, parts.mixed_precision),
        loop=parts.loop,
        micro_batch_size=parts.micro_batch_size,
        micro_batch_tokens=parts.config.training.micro_batch_tokens,
        parameters=_count(model),
        trained_parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        runs=num_runs,
        updates=cadence.num_updates,
        updates_per_epoch=cadence.updates_per_epoch,
        seconds_per_update=median(seconds),
        mean_seconds_per_update=mean(seconds),
        seconds_longest_update=seconds_longest,
        evaluations=evaluations,
        seconds_per_evaluation=evaluation_seconds,
        estimated_seconds=num_runs * (cadence.num_updates * mean(seconds) + evaluations * evaluation_seconds),
        peak_memory_bytes=peak_memory_bytes(),
        device_memory_bytes=torch.cuda.max_memory_reserved(parts.device) if on_cuda else None,
        device_memory_total_bytes=torch.cuda.get_device_properties(parts.device).total_memory if on_cuda else None,
        estimated_memory=estimate,
    )


def _warn_of_little_memory(estimate: MemoryEstimate, parts: Parts) -> None:
    """Before the first update: the system ends a process that takes too much without a word."""
    cpu = describe_cpu()
    room = min((size for size in (cpu.memory_bytes, cpu.memory_limit_bytes) if size), default=None)
    if parts.device.type == "cpu" and room is not None and estimate.total > room:
        logger.warning(
            "Training takes about %.1f GB, and this machine has %.1f GB: the system may end it. Smaller: "
            "training.micro_batch_size, training.gradient_checkpointing, data.max_length, model.lora with model.dtype.",
            estimate.total / 1e9,
            room / 1e9,
        )


class Updater:
    """Makes single updates with the parts of a run, as its loop would, and times them."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        accelerator = new_accelerator(parts.mixed_precision)
        self.model, optimizer = accelerator.prepare(parts.model, parts.optimizer)
        max_grad_norm = parts.config.training.max_grad_norm
        self.update = Update(accelerator, self.model, optimizer, parts.objective, max_grad_norm)

    def estimate_memory(self, rows: np.ndarray, *, program: int) -> MemoryEstimate:
        """From forward passes of one piece of an update on the longest rows, alone and twice; see training.memory."""
        model, micro_batches = self.parts.model, self.parts.sampler.micro_batches(rows)
        longest = micro_batches[0].pieces[0]

        def kept_for(count: int) -> int:
            micro_batch = MicroBatch(np.full(count, longest), num_valid=count, update_rows=count)
            batch = to_device(self.parts.rows.micro_batch(micro_batch), self.parts.device)
            return kept_bytes(model, lambda: self.parts.objective(self.model, batch))

        def kept_of_all(count: int) -> int:
            model.activation_checkpointing_disable()
            try:
                return kept_for(count)
            finally:
                recompute_activations(model)

        self.model.train()
        recomputes = self.parts.config.training.gradient_checkpointing
        layers = getattr(model.config.get_text_config(), "num_hidden_layers", 1)
        return estimate_memory(
            model,
            self.parts.optimizer,
            kept_for,
            rows=max(len(micro_batch.pieces) for micro_batch in micro_batches),
            layers_recomputed=(layers, kept_of_all) if recomputes else None,
            program=program,
        )

    def seconds(self, rows: np.ndarray) -> float:
        """The time of one update on these rows, until the device has done it."""
        began = time.perf_counter()
        self.model.train()
        self.update([self.parts.rows.micro_batch(part) for part in self.parts.sampler.micro_batches(rows)])
        _wait_for(self.parts.device)
        return time.perf_counter() - began


def _count(model: PreTrainedModel) -> int:
    """The weights of the model; those of words that no training row has are beside its parameters."""
    if any(not parameter.is_floating_point() for parameter in model.parameters()):  # in 4 bits
        return sum(count_weights(parameter) for parameter in model.parameters())
    return sum(weight.numel() for weight in model.state_dict().values())


def _typical_updates(order: RowOrder) -> Sequence[np.ndarray]:
    """Updates of the first epoch, evenly spread over all widths, so that their mean is the epoch's."""
    updates = sorted(order.epoch(0), key=lambda rows: -len(rows) * int(order.lengths[rows].max()))
    count = min(TIMED_UPDATES, len(updates))
    return [updates[int((number + 0.5) * len(updates) / count)] for number in range(count)]


def _evaluation_seconds(parts: Parts, name: str) -> float:
    """The time to score a split during training, from some of its rows and its number of tokens."""
    split = parts.context.prepared.splits[name]
    count = max(1, int(np.searchsorted(split.offsets, EVALUATED_TOKENS, side="right")) - 1)
    some = split.take(np.arange(count))
    began = time.perf_counter()
    logits_in_training(parts.context, parts.model, some, compiled=parts.device_settings.compile)
    return (time.perf_counter() - began) * float(split.offsets[-1]) / float(some.offsets[-1])


def _wait_for(device: torch.device) -> None:
    if device.type == "xla":
        xla.run_collected(device, wait=True)
    elif device.type != "cpu":
        torch.accelerator.synchronize()
