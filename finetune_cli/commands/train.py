"""finetune train: prepared data and a model in, the best model with its scores and history out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from accelerate.utils.memory import clear_device_cache

from finetune_cli.commands.beginning import model_fingerprint, open_run
from finetune_cli.commands.ending import conclude, export_best, score_best
from finetune_cli.commands.folds import train_folds
from finetune_cli.commands.learning_curve import train_shares
from finetune_cli.commands.members import TrainOne
from finetune_cli.commands.seeds import train_seeds
from finetune_cli.config.fields import RunConfig
from finetune_cli.data.apart import require_apart
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError, ExitCode
from finetune_cli.records.evaluation import of_split
from finetune_cli.records.folds import FoldsReport
from finetune_cli.records.learning_curve import CurveReport
from finetune_cli.records.run import Fingerprints, RunRecord
from finetune_cli.records.training import Listener, SeedsReport, TrainReport
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.fit import Fit, fit
from finetune_cli.runs.folds import require_folds, require_folds_to_come
from finetune_cli.runs.gates import check_config_gates
from finetune_cli.runs.hub import is_uploaded, require_write_access
from finetune_cli.runs.requirements import require_tools
from finetune_cli.runs.rows import prepare_rows
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.scoring import scoring_rules, warn_of_far_numbers, warn_of_undefined
from finetune_cli.runs.session import locked, model_name, note_scores, recorded
from finetune_cli.runs.sharding import require_supported_launch
from finetune_cli.runs.tracking import tracked
from finetune_cli.system.allocator import give_back_freed_memory
from finetune_cli.system.devices import mention_idle_gpus
from finetune_cli.system.group import wait_for_main_process
from finetune_cli.system.launching import is_main_process, join_group, launched_processes
from finetune_cli.training.checkpointing import step_of
from finetune_cli.training.placing import device_name

logger = logging.getLogger(__name__)


def train(
    config: RunConfig,
    *,
    resume: str = "auto",
    overwrite: bool = False,
    push: bool = False,
    offline: bool = False,
    listen: Listener = lambda event: None,
    final: bool = False,
    data_known: bool = False,
) -> TrainReport | SeedsReport | FoldsReport | CurveReport:
    """Fine-tune as the config says, going on where an earlier run with the same config and data stopped.

    resume: "auto" (the newest complete checkpoint), "never" (from the start), or a checkpoint's path. overwrite: clear
    the run directory first. push: upload the model to `hub` although that was done before. listen: is given
    TrainingStarted, then each StepRecord and EvalRecord. final: after the folds of data.folds, train one model on all
    rows. data_known: what the data checks find was said before.
    With `training.seeds`, `data.folds` or `training.learning_curve` each seed, fold or share is such a run, before
    which `listen` gets MemberStarted, and the result is a summary.
    Call it in every process of a launched group; each gets the report. Raises FinetuneError's subclasses;
    GateFailedError and MembersFailedError, which come when everything is written, hold the report.
    """
    require_tools(config, push=push)
    require_apart(config.output_dir, config.data.path, config.data.splits or {}, config.model.name_or_path)
    folds, seeds, shares = config.data.folds, config.training.seeds, config.training.learning_curve
    train_one = partial(_train_one, resume=resume, offline=offline, listen=listen)
    if final:
        require_folds_to_come(config)
    if seeds is None and shares is None and (folds is None or folds.fold is not None):
        if config.sweep is not None:
            logger.info("The section sweep is for finetune sweep; this trains the config's own values.")
        return train_one(config, overwrite=overwrite, push=push, data_known=data_known)
    if resume not in ("auto", "never"):
        raise ConfigError(
            "--resume PATH goes on with one run. With several seeds, folds or shares, name that one's own config."
        )
    train_member = _one_after_another(train_one, data_known=data_known or bool(shares))
    if shares is not None:
        train_share = partial(train_seeds, train_one=train_member, listen=listen) if seeds else train_member
        return train_shares(config, train_share, overwrite=overwrite, offline=offline, listen=listen)
    if seeds is not None:
        return train_seeds(config, train_member, overwrite=overwrite, listen=listen)
    return train_folds(config, train_member, final=final, overwrite=overwrite, offline=offline, listen=listen)


def _one_after_another(train_one: Callable[..., TrainReport], *, data_known: bool) -> TrainOne:
    """Trains one of several runs, and gives back its memory. They have the same rows, or nearly: what the data checks
    find is said once."""

    def train_member(config: RunConfig) -> TrainReport:
        nonlocal data_known
        known, data_known = data_known, True
        try:
            return train_one(config, data_known=known)
        finally:
            clear_device_cache(garbage_collection=True)

    return train_member


def _train_one(
    config: RunConfig,
    *,
    resume: str,
    offline: bool,
    listen: Listener,
    data_known: bool,
    overwrite: bool = False,
    push: bool = False,
) -> TrainReport:
    """One run; see train."""
    run = RunDir(config.output_dir)
    hub = config.hub if is_main_process() else None
    with locked(run) if is_main_process() else nullcontext():
        if hub and (push or overwrite or resume != "auto" or not is_uploaded(run, hub)):
            require_write_access(hub, offline=offline)
        if config.data.trains_on_all_rows:
            require_folds(run)
        # Before the group forms: no process waits in a collective for it.
        prepared = prepare_rows(config, offline=offline, quiet=data_known, once=True)
        context = RunContext(run, config, prepared, scoring_rules(config, prepared), offline, listen)
        opened = open_run(context, resume=resume, overwrite=overwrite) if is_main_process() else None
        require_supported_launch(config)
        state = join_group(timeout_seconds=config.training.ddp_timeout)
        if launched_processes() == 1:
            mention_idle_gpus()
        finished, checkpoint = _same_everywhere(opened)
        if not finished:
            started = _facts_at_start(context, checkpoint)
            with recorded(run, started) if state.is_main_process else nullcontext(started) as record:
                warn_of_undefined(context)
                warn_of_far_numbers(context)
                with tracked(context, going_on=checkpoint is not None) as heard:
                    fitted = fit(replace(context, listen=heard), checkpoint)
                give_back_freed_memory()  # activations and moments; the best model is read into memory next
                if state.is_main_process:
                    _note_training(record, fitted, prepared, checkpoint)
                    run.write_record(record)  # the reports say which update was the best
                    export_best(context, fitted)
                    reports = score_best(context, fitted)
                    note_scores(record, config, reports)
                    if not all(outcome.passed for outcome in check_config_gates(config, of_split(reports))):
                        record.exit_code = ExitCode.GATE_FAILED
            wait_for_main_process(state)
        return conclude(context, hub, push=push, already_finished=finished)


def _same_everywhere(opened: tuple[bool, Path | None] | None) -> tuple[bool, Path | None]:
    """What the main process decided, in every process of the group."""
    decision: list[Any] = [opened]
    if PartialState().num_processes > 1:
        broadcast_object_list(decision)
    return decision[0]


def _facts_at_start(context: RunContext, checkpoint: Path | None) -> RunRecord:
    """What run.json says from the start; called by all processes together."""
    state = PartialState()
    # A continued run started from the model that its record names, whatever has become of that since.
    known = context.run.read_record().fingerprints.model if checkpoint else None
    return RunRecord(
        seed=context.config.seed,
        task=context.config.task,
        model=model_name(context.config),
        processes=state.num_processes,
        devices=gather_object([device_name(state.device)]),
        fingerprints=Fingerprints(context.prepared.key, known or model_fingerprint(context)),
    )


def _note_training(record: RunRecord, fitted: Fit, prepared: PreparedData, checkpoint: Path | None) -> None:
    """Add to the record what is known once the last update is done."""
    progress, rows = fitted.progress, prepared.splits["train"].num_rows
    record.precision = fitted.mixed_precision.replace("no", "fp32")
    record.micro_batch_size = fitted.micro_batch_size
    record.steps, record.best_step, record.resumed_from = progress.step, progress.best_step, step_of(checkpoint)
    record.skipped_updates = progress.skipped_updates
    record.stopped_early = fitted.stopped_early or None
    record.training_seconds = progress.seconds
    record.rows_per_second = fitted.epochs * rows / progress.seconds
    record.torch_threads = torch.get_num_threads()
