"""`finetune train --dry-run`: a few real updates on a model that is thrown away, and what the whole run would take."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np
import torch
from accelerate.utils import send_to_device
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from finetune_cli.commands.folds import fold_config
from finetune_cli.commands.seeds import seed_config
from finetune_cli.config.fields import RunConfig
from finetune_cli.data.order import RowOrder, split_update
from finetune_cli.data.prepared import PreparedSplit
from finetune_cli.errors import ConfigError, RunFailedError
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.records.training import DryRunReport
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.fit import new_accelerator
from finetune_cli.runs.parts import OPTIMIZER_ARGUMENTS, Parts, build_parts, rows_at_once, scored_splits, uncompiled
from finetune_cli.runs.rows import prepare_rows
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.scoring import scoring_rules
from finetune_cli.system.launching import join_group, launched_processes
from finetune_cli.system.provenance import peak_memory_bytes
from finetune_cli.training.guards import clip_gradients

logger = logging.getLogger(__name__)

TIMED_UPDATES = 10
EVALUATED_TOKENS = 16384  # 2 seconds of MiniLM on two cores
APPLIED_ARGUMENTS = OPTIMIZER_ARGUMENTS | {"lr_scheduler_kwargs"}  # the schedule costs no time


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a split, as many as have EVALUATED_TOKENS tokens, but one at least."""

    input_ids: np.ndarray
    offsets: np.ndarray
    token_type_ids: np.ndarray | None
    padding_side: str

    @classmethod
    def of(cls, split: PreparedSplit) -> FirstRows:
        count = max(1, int(np.searchsorted(split.offsets, EVALUATED_TOKENS, side="right")) - 1)
        return cls(split.input_ids, split.offsets[: count + 1], split.token_type_ids, split.padding_side)


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
    one, num_runs = _one_of_several(config)
    prepared = prepare_rows(one, offline=offline)
    join_group()
    if left_out := sorted(one.training.trainer_args.keys() - APPLIED_ARGUMENTS):
        logger.warning("Left out of this measurement, as the Trainer alone can do it: %s", ", ".join(left_out))
    rules = scoring_rules(one, prepared)
    context = RunContext(RunDir(one.output_dir), one, prepared, rules, offline, listen=lambda event: None)
    asked = rows = rows_at_once(one)
    while True:
        try:
            report = _measure(build_parts(context, rows), num_runs=num_runs)
        except RuntimeError as err:
            if not should_reduce_batch_size(err):
                raise
            if rows == 1:
                raise RunFailedError(
                    "Out of memory with a single row. Set data.max_length, or take a smaller model."
                ) from err
            rows = -(-rows // 2)
        else:
            break
        clear_device_cache(garbage_collection=True)
    if rows < asked:
        _say_what_fits(one, asked, rows)
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
            f"Out of memory with {asked} rows at once; {rows} fit. Type: -s training.micro_batch_size={rows} "
            f"(accumulation keeps batch_size as it is)."
        )
    logger.warning("Out of memory with %d rows at once; %d fit, and the run would take that many.", asked, rows)


def _measure(parts: Parts, *, num_runs: int) -> DryRunReport:
    updater = Updater(parts)
    longest = _longest_rows(parts.order)
    updater.seconds(longest)
    seconds_longest = updater.seconds(longest)  # once more: by now the optimizer holds its averages
    seconds = [updater.seconds(rows) for rows in _typical_updates(parts.order)]
    evaluation_seconds = sum(_evaluation_seconds(parts, split) for split in scored_splits(parts.context.prepared))
    cadence, model = parts.cadence, parts.model
    evaluations = -(-cadence.num_updates // (cadence.evaluate_every or cadence.updates_per_epoch)) + 1
    on_cuda = parts.device.type == "cuda"
    return DryRunReport(
        device=torch.cuda.get_device_name(parts.device) if on_cuda else str(parts.device),
        precision=parts.mixed_precision.replace("no", "fp32"),
        loop=parts.loop,
        micro_batch_size=parts.micro_batch_size,
        parameters=sum(weight.numel() for weight in model.state_dict().values()),
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
    )


class Updater:
    """Makes single updates with the parts of a run, as its loop would, and times them."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.accelerator = new_accelerator(parts.mixed_precision)
        self.model, self.optimizer = self.accelerator.prepare(parts.model, parts.optimizer)

    def seconds(self, rows: np.ndarray) -> float:
        """The time of one update on these rows, until the device has done it."""
        began = time.perf_counter()
        self.model.train()
        micro_batches = split_update(
            rows, micro_batch_size=self.parts.micro_batch_size, num_processes=1, process_index=0
        )
        for micro_batch in micro_batches:
            batch = send_to_device(self.parts.rows.__getitems__(micro_batch), self.parts.device, non_blocking=True)
            self.accelerator.backward(self.parts.objective(self.model, batch))
        clip_gradients(self.accelerator, self.model, self.optimizer, max_norm=self.parts.config.training.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        _wait_for_device()
        return time.perf_counter() - began


def _longest_rows(order: RowOrder) -> np.ndarray:
    return np.argsort(-order.lengths, kind="stable")[: order.batch_size]


def _typical_updates(order: RowOrder) -> Sequence[np.ndarray]:
    """Updates of the first epoch, evenly spread over all widths, so that their mean is the epoch's."""
    updates = sorted(order.epoch(0), key=lambda rows: -len(rows) * int(order.lengths[rows].max()))
    count = min(TIMED_UPDATES, len(updates))
    return [updates[int((number + 0.5) * len(updates) / count)] for number in range(count)]


def _evaluation_seconds(parts: Parts, name: str) -> float:
    """The time to score a split during training, from some of its rows and its number of tokens."""
    prepared = parts.context.prepared
    split = prepared.splits[name]
    some = FirstRows.of(split)
    began = time.perf_counter()
    with uncompiled(parts.device_settings.compile):
        predict_logits(parts.model, some, pad_token_id=prepared.pad_token_id, device=parts.device)
    return (time.perf_counter() - began) * float(split.offsets[-1]) / float(some.offsets[-1])


def _wait_for_device() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
