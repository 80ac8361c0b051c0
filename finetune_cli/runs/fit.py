"""Driving the chosen loop with the parts of a run, again with fewer rows at once when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import KwargsHandler
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import PreTrainedModel

from finetune_cli.config.fields import RunConfig
from finetune_cli.errors import PrunedError, RunFailedError, counted
from finetune_cli.records.training import TrainingStarted
from finetune_cli.runs.candidates import write_candidates
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.on_device import rows_at_once
from finetune_cli.runs.parts import Parts, build_parts
from finetune_cli.system.signals import StopRequest, stop_error
from finetune_cli.tasks import METRICS
from finetune_cli.training import accelerate_loop
from finetune_cli.training.checkpointing import Checkpoints, step_of
from finetune_cli.training.history import History
from finetune_cli.training.kept_predictions import KeptPredictions
from finetune_cli.training.monitor import Monitor
from finetune_cli.training.placing import ddp_options
from finetune_cli.training.progress import BestRule, Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """How training went. `model`: the bare model as the last update left it; the best one is in the checkpoints.

    kept: what every evaluation found of each validation row. stopped_early: before the last update that was planned.
    """

    progress: Progress
    kept: KeptPredictions
    epochs: float
    model: PreTrainedModel
    device: torch.device
    mixed_precision: str
    micro_batch_size: int
    stopped_early: bool


def fit(context: RunContext, checkpoint: Path | None) -> Fit:
    """Train from the start or from `checkpoint` until the config's end; runs in every process of the group.

    When the device runs out of memory, it goes on from what it saved last or from `checkpoint`: without CUDA graphs,
    whose memory is their own, and then, where what it takes at once was left to us, with half the rows at once. The
    update keeps its rows, so the curve stays the same but for the dropout masks.
    """
    micro_batch_size, replay, stop = rows_at_once(context.config), True, StopRequest()
    checkpoints = context.checkpoints()
    while True:
        parts = build_parts(context, micro_batch_size, replay=replay)
        if checkpoint is not None:
            logger.info("Going on from %s", checkpoint)
        started = TrainingStarted(step_of(checkpoint), parts.cadence.num_updates, str(parts.device), parts.loop)
        context.listen(started)
        try:
            with stop.listening():
                progress = run_loop(parts, checkpoint, checkpoints, stop)
        except PrunedError:
            write_candidates(context, parts.kept, None)  # a sweep chose among them, too
            raise
        except RuntimeError as err:
            if not should_reduce_batch_size(err):
                raise
            if parts.device_settings.replay:
                logger.warning("Out of memory; going on without CUDA graphs, which hold an update's memory apart.")
                replay = False
            else:
                micro_batch_size = _smaller(micro_batch_size, context.config, err)
            if checkpoints.current is not None:
                checkpoint = checkpoints.undamaged(checkpoints.current)
        else:
            # The loop's objects hold each other, so that the optimizer itself lives until the collector comes by.
            parts.optimizer.state.clear()
            epochs, precision = parts.cadence.epoch(progress.step), parts.mixed_precision
            early = progress.step < parts.cadence.num_updates
            return Fit(progress, parts.kept, epochs, parts.model, parts.device, precision, micro_batch_size, early)
        del parts
        clear_device_cache(garbage_collection=True)


def _smaller(micro_batch_size: int, config: RunConfig, err: BaseException) -> int:
    """Half the rows, said aloud; RunFailedError when that is not possible or was not left to us."""
    if (tokens := config.training.micro_batch_tokens) is not None:
        raise too_many_tokens(tokens) from err
    if config.training.micro_batch_size != "auto" or micro_batch_size == 1 or PartialState().num_processes > 1:
        raise RunFailedError(
            f"Out of memory with {counted(micro_batch_size, 'row')} at once on each device. Set "
            f"training.micro_batch_size lower (accumulation keeps batch_size as it is), or data.max_length."
        ) from err
    half = -(-micro_batch_size // 2)
    logger.warning(
        "Out of memory with %d rows at once; going on with %d. An update keeps its rows (%d).",
        micro_batch_size,
        half,
        config.training.batch_size,
    )
    return half


def too_many_tokens(tokens: int) -> RunFailedError:
    """The error for memory that ran out although `training.micro_batch_tokens` bounds it."""
    return RunFailedError(
        f"Out of memory with {tokens} tokens at once on each device. Set training.micro_batch_tokens lower "
        f"(accumulation keeps batch_size as it is), or data.max_length."
    )


def run_loop(parts: Parts, checkpoint: Path | None, checkpoints: Checkpoints, stop: StopRequest) -> Progress:
    """Train in the loop that the config names, once; with several processes all of them hear of a late signal."""
    run = _run_trainer if parts.loop == "trainer" else _run_accelerate
    progress = run(parts, partial(_monitor, parts, checkpoint, checkpoints, stop))
    if number := stop.agreed(PartialState()):
        raise stop_error(number, "after the last update")
    return progress


def _run_accelerate(parts: Parts, follow: Callable[..., Monitor]) -> Progress:
    accelerator = new_accelerator(parts.mixed_precision, ddp_options(accumulates=parts.accumulates))
    with follow(accelerator) as monitor:
        accelerate_loop.train(
            accelerator,
            parts.model,
            parts.optimizer,
            parts.schedule,
            parts.batches,
            parts.objective,
            monitor,
            max_grad_norm=parts.config.training.max_grad_norm,
            seed=parts.config.seed,
            replay=parts.device_settings.replay,
        )
    return monitor.progress


def _run_trainer(parts: Parts, follow: Callable[..., Monitor]) -> Progress:
    from finetune_cli.training import trainer_loop  # brings `datasets` and pandas, which the other loop does without

    trainer = trainer_loop.SharedPartsTrainer(
        parts.batches,
        parts.objective,
        parts.optimizer,
        parts.schedule,
        accumulates=parts.accumulates,
        skip_nonfinite=parts.skip_nonfinite,
        replay=parts.device_settings.replay,
        model=parts.model,
        args=parts.trainer_arguments(),
    )
    with follow(trainer.accelerator, add_files=trainer.save_own_state) as monitor:
        trainer_loop.train(trainer, monitor, seed=parts.config.seed)
    return monitor.progress


def new_accelerator(mixed_precision: str, *handlers: KwargsHandler) -> Accelerator:
    """An Accelerator that computes in this precision, whatever an earlier run of this process computed in.

    Accelerate keeps the first one's for the process; Trainer resets it in the same way.
    """
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed_precision, kwargs_handlers=list(handlers))


def _monitor(
    parts: Parts,
    checkpoint: Path | None,
    checkpoints: Checkpoints,
    stop: StopRequest,
    accelerator: Accelerator,
    *,
    add_files: Callable[[Path], None] | None = None,
) -> Monitor:
    context, stopping, best = (
        parts.context,
        parts.config.training.early_stopping,
        parts.config.evaluation.metric_for_best,
    )
    return Monitor(
        accelerator,
        parts.schedule,
        cadence=parts.cadence,
        best_rule=BestRule(
            best,
            greater_is_better=best is None or METRICS[best].greater_is_better,
            patience=stopping.patience if stopping else None,
            min_delta=stopping.min_delta if stopping else 0.0,
        ),
        checkpoints=checkpoints,
        history=History(context.run.history),
        rows_of=parts.rows_of,
        evaluate=parts.evaluate,
        kept=parts.kept,
        stop=stop,
        resume_from=checkpoint,
        add_files=add_files,
        skip_nonfinite=parts.skip_nonfinite,
        listen=context.listen,
        lag=parts.device_settings.reading_lag,
    )
