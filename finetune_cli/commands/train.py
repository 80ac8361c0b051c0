"""finetune train: prepared data and a model in, the best model with its scores and history out."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from safetensors.torch import load_file

from finetune_cli import model_files, modeling
from finetune_cli.commands.evaluate import score_prepared, scoring_rules
from finetune_cli.commands.fitting import Fit, fit, step_of
from finetune_cli.commands.model_card import model_card
from finetune_cli.commands.prepare import prepare
from finetune_cli.commands.run_parts import scored_splits
from finetune_cli.commands.session import locked, recorded
from finetune_cli.config import RunConfig, config_diff, load_config, to_yaml
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError, MissingError
from finetune_cli.launching import is_main_process, join_group
from finetune_cli.records import EvalReport, TrainReport
from finetune_cli.run_dir import RunDir, publish_directory, replacing
from finetune_cli.training.checkpointing import WEIGHTS, Checkpoints

logger = logging.getLogger(__name__)


def train(
    config: RunConfig,
    *,
    resume: str = "auto",
    overwrite: bool = False,
    offline: bool = False,
    listen: Callable[[Any], None] = lambda event: None,
) -> TrainReport:
    """Fine-tune as the config says, going on where an earlier run with the same config and data stopped.

    resume: "auto" (the newest complete checkpoint), "never" (from the start), or a checkpoint's path. overwrite: clear
    the run directory first. listen: is given TrainingStarted, then each StepRecord and EvalRecord.
    Call it in every process of a launched group; each gets the report. Raises FinetuneError's subclasses.
    """
    run = RunDir(config.output_dir)
    with locked(run) if is_main_process() else nullcontext():
        prepared = prepare(config, offline=offline)  # before the group forms: no process waits in a collective for it
        rules = scoring_rules(config, prepared.label_names)
        decision: list[Any] = [None]
        if is_main_process():
            decision = [_open_run(run, config, prepared, resume=resume, overwrite=overwrite)]
        state = join_group()
        if state.num_processes > 1:
            broadcast_object_list(decision)
        finished, checkpoint = decision[0]
        if not finished:
            facts = {
                "seed": config.seed,
                "processes": state.num_processes,
                "devices": gather_object([_device_name(state.device)]),
                "fingerprints": {"data": prepared.key, "model": _model_fingerprint(config, offline=offline)},
            }
            session: AbstractContextManager[dict[str, Any]] = nullcontext({})
            with recorded(run, facts) if state.is_main_process else session as record:
                fitted = fit(run, config, prepared, rules, checkpoint=checkpoint, offline=offline, listen=listen)
                if state.is_main_process:
                    record |= _facts(fitted, prepared, checkpoint)
                    _export_best(run, config, prepared, fitted)
                    _score_best(run, config, prepared, fitted.device)
            state.wait_for_everyone()
        return _report(run, already_finished=finished)


def _open_run(
    run: RunDir, config: RunConfig, prepared: PreparedData, *, resume: str, overwrite: bool
) -> tuple[bool, Path | None]:
    """Whether the run is finished already, and the checkpoint to continue from; refuses another config or data."""
    checkpoints = Checkpoints(run.checkpoints, keep=config.checkpointing.keep)
    named = None if resume in ("auto", "never") else checkpoints.undamaged(Path(resume))
    if named and overwrite:
        raise ConfigError(f"--overwrite would delete this run's checkpoints, and --resume {named} needs one. Drop one.")
    if run.holds_work() and not overwrite:
        _require_same_run(run, config, prepared)
        finished = run.read_record().get("status") == "finished"
        if finished and resume == "never":
            raise ConfigError(f"{run.path} holds a finished run. To train it anew from the start, say --overwrite.")
        if finished and named is None:
            return True, None
    if overwrite or resume == "never":
        run.clear()
    with replacing(run.config) as file:
        file.write(to_yaml(config))
    return False, named or checkpoints.newest()


def _require_same_run(run: RunDir, config: RunConfig, prepared: PreparedData) -> None:
    """Refuse to mix two runs in one directory; the directory itself may have been moved."""
    differences = [
        f"  {key}: {old!r} there, {new!r} now"
        for key, old, new in config_diff(load_config(run.config), config)
        if key != "output_dir"
    ]
    key = run.read_record().get("fingerprints", {}).get("data")
    if key not in (None, prepared.key) and not differences:
        differences = ["  the rows, the tokenizer or the way that texts are encoded have changed"]
    if differences:
        raise ConfigError(
            f"{run.path} holds a run with another config or other data:\n"
            + "\n".join(differences)
            + "\nChoose another directory with --output-dir, or delete that run and start anew with --overwrite."
        )


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _model_fingerprint(config: RunConfig, *, offline: bool) -> str | None:
    """SHA-256 of the pretrained model that the run starts from; None for a new one, which config and seed decide."""
    if config.model.name_or_path is None or not is_main_process():
        return None
    return model_files.weights_fingerprint(
        model_files.resolve_model(config.model.name_or_path, revision=config.model.revision, offline=offline)
    )


def _facts(fitted: Fit, prepared: PreparedData, checkpoint: Path | None) -> dict[str, Any]:
    """What run.json says of the training; rows per second are over the whole run, resumes and scoring included."""
    progress, rows = fitted.progress, prepared.splits["train"].num_rows
    return {
        "precision": fitted.mixed_precision.replace("no", "fp32"),
        "micro_batch_size": fitted.micro_batch_size,
        "steps": progress.step,
        "best_step": progress.best_step,
        "resumed_from": step_of(checkpoint),
        "training_seconds": progress.seconds,
        "rows_per_second": fitted.epochs * rows / progress.seconds,
        "torch_threads": torch.get_num_threads(),
    }


def _export_best(run: RunDir, config: RunConfig, prepared: PreparedData, fitted: Fit) -> None:
    """Put the best checkpoint's weights, with configuration and tokenizer, into `model/`, in one piece."""
    checkpoint = Checkpoints(run.checkpoints, keep=config.checkpointing.keep).undamaged(
        run.checkpoints / f"step-{fitted.progress.best_step:06d}"
    )
    aside = run.path / ".writing-model"
    shutil.rmtree(aside, ignore_errors=True)
    fitted.model.save_pretrained(aside, state_dict=load_file(checkpoint / WEIGHTS))
    shutil.copytree(prepared.tokenizer_dir, aside, dirs_exist_ok=True)
    publish_directory(aside, run.model)


def _score_best(run: RunDir, config: RunConfig, prepared: PreparedData, device: torch.device) -> None:
    """Score the saved model on the validation splits, with intervals, and write its model card."""
    model = modeling.load_trained(run.model, trust_remote_code=config.model.trust_remote_code).to(device)
    reports = [score_prepared(model, prepared, config, split, run=run) for split in scored_splits(prepared)]
    with replacing(run.model / "README.md") as file:
        file.write(model_card(config, prepared.label_names, reports))


def _report(run: RunDir, *, already_finished: bool) -> TrainReport:
    """The report of a finished run, from its files."""
    record = run.read_record()
    evaluations = [
        EvalReport.from_json(json.loads(file.read_text(encoding="utf-8")))
        for file in sorted((run.path / "eval").glob("validation*/metrics.json"))
    ]
    if not run.model.is_dir() or not evaluations:
        raise MissingError(
            f"{run.path} is marked as finished but lacks its model or scores. Start anew with --overwrite."
        )
    return TrainReport(
        run_dir=run.path,
        steps=record["steps"],
        best_step=record["best_step"],
        resumed_from=record["resumed_from"],
        seconds=record["training_seconds"],
        rows_per_second=record["rows_per_second"],
        already_finished=already_finished,
        evaluations=evaluations,
    )
