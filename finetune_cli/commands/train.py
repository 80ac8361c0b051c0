"""finetune train: prepared data and a model in, the best model with its scores and history out."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from accelerate.utils.memory import clear_device_cache
from safetensors.torch import load_file

from finetune_cli.commands.seeds import train_seeds
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config, to_yaml
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError, ExitCode, GateFailedError
from finetune_cli.models import building, files, lora
from finetune_cli.records.evaluation import EvalReport, GateOutcome
from finetune_cli.records.training import SeedsReport, TrainReport
from finetune_cli.report.write import write_report
from finetune_cli.runs.fit import Fit, fit, step_of
from finetune_cli.runs.gates import check_report, parse_gates, require_passed
from finetune_cli.runs.hub_upload import is_uploaded, require_write_access, upload
from finetune_cli.runs.model_card import model_card
from finetune_cli.runs.parts import scored_splits
from finetune_cli.runs.requirements import require_tools
from finetune_cli.runs.rows import prepare_rows
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.scoring import score_prepared, scoring_rules
from finetune_cli.runs.session import locked, read_report, recorded, run_differences
from finetune_cli.runs.tracking import tracked
from finetune_cli.system.allocator import give_back_freed_memory
from finetune_cli.system.files import publish_directory, replacing
from finetune_cli.system.launching import is_main_process, join_group
from finetune_cli.training.checkpointing import Checkpoints

logger = logging.getLogger(__name__)


def train(
    config: RunConfig,
    *,
    resume: str = "auto",
    overwrite: bool = False,
    push: bool = False,
    offline: bool = False,
    listen: Callable[[Any], None] = lambda event: None,
) -> TrainReport | SeedsReport:
    """Fine-tune as the config says, going on where an earlier run with the same config and data stopped.

    resume: "auto" (the newest complete checkpoint), "never" (from the start), or a checkpoint's path. overwrite: clear
    the run directory first. push: upload the model to `hub` although that was done before. listen: is given
    TrainingStarted, then each StepRecord and EvalRecord.
    With `training.seeds` each seed is such a run, before which `listen` gets SeedStarted, and the result is a summary.
    Call it in every process of a launched group; each gets the report. Raises FinetuneError's subclasses;
    GateFailedError and SeedsFailedError, which come when everything is written, hold the report.
    """
    require_tools(config, push=push)
    seeds = config.training.seeds
    if seeds is None:
        return _train_one(config, resume=resume, overwrite=overwrite, push=push, offline=offline, listen=listen)
    if resume not in ("auto", "never"):
        raise ConfigError("--resume PATH goes on with one run. With several seeds, name that seed's own config.")

    def train_seed(one: RunConfig) -> TrainReport:
        try:
            known = one.seed != seeds[0]  # all seeds have the same rows
            return _train_one(
                one, resume=resume, overwrite=False, push=False, offline=offline, listen=listen, data_known=known
            )
        finally:
            clear_device_cache(garbage_collection=True)

    return train_seeds(config, train_seed, overwrite=overwrite, listen=listen)


def _train_one(
    config: RunConfig,
    *,
    resume: str,
    overwrite: bool,
    push: bool,
    offline: bool,
    listen: Callable[[Any], None],
    data_known: bool = False,
) -> TrainReport:
    """See train. data_known: what the data checks find was said before."""
    run = RunDir(config.output_dir)
    hub = config.hub if is_main_process() else None
    with locked(run) if is_main_process() else nullcontext():
        if hub and (push or overwrite or resume != "auto" or not is_uploaded(run, hub)):
            require_write_access(hub, offline=offline)
        # Before the group forms: no process waits in a collective for it.
        prepared = prepare_rows(config, offline=offline, quiet=data_known)
        rules = scoring_rules(config, prepared)
        decision: list[Any] = [None]
        if is_main_process():
            decision = [_open_run(run, config, prepared, resume=resume, overwrite=overwrite)]
        state = join_group()
        if state.num_processes > 1:
            broadcast_object_list(decision)
        finished, checkpoint = decision[0]
        if not finished:
            # A continued run started from the model that its record names, whatever has become of that since.
            known = run.read_record().get("fingerprints", {}).get("model") if checkpoint else None
            facts = {
                "seed": config.seed,
                "processes": state.num_processes,
                "devices": gather_object([_device_name(state.device)]),
                "fingerprints": {"data": prepared.key, "model": known or _model_fingerprint(config, offline=offline)},
            }
            session: AbstractContextManager[dict[str, Any]] = nullcontext({})
            with recorded(run, facts) if state.is_main_process else session as record:
                with _heard(run, config, listen, going_on=checkpoint is not None, offline=offline) as heard:
                    fitted = fit(run, config, prepared, rules, checkpoint=checkpoint, offline=offline, listen=heard)
                give_back_freed_memory()  # activations and moments; the best model is read into memory next
                if state.is_main_process:
                    record |= _facts(fitted, prepared, checkpoint)
                    _export_best(run, config, prepared, fitted)
                    reports = _score_best(run, config, prepared, fitted.device)
                    if not all(outcome.passed for outcome in _gates(config, reports)):
                        record["exit_code"] = ExitCode.GATE_FAILED
            state.wait_for_everyone()
        try:
            report = _with_gates(config, read_report(run, already_finished=finished))
        except GateFailedError:
            if hub:
                logger.warning("A gate failed: nothing is uploaded to %s.", hub.repo_id)
            raise
        if hub and (push or not is_uploaded(run, hub)):
            report = replace(report, uploaded_to=upload(run, hub))
    return report


@contextmanager
def _heard(
    run: RunDir, config: RunConfig, listen: Callable[[Any], None], *, going_on: bool, offline: bool
) -> Iterator[Callable[[Any], None]]:
    """The listener of the training: the caller's, and in the main process the trackers, too."""
    if not is_main_process():
        yield listen
        return
    with tracked(run, config, going_on=going_on, offline=offline) as track:

        def both(event: Any) -> None:
            track(event)  # first: what history.jsonl has, the trackers have, too
            listen(event)

        yield both


def _open_run(
    run: RunDir, config: RunConfig, prepared: PreparedData, *, resume: str, overwrite: bool
) -> tuple[bool, Path | None]:
    """Whether the run is finished already, and the checkpoint to continue from; refuses another config or data."""
    if run.seed_runs() and not overwrite:
        raise ConfigError(
            f"{run.path} holds runs of several seeds. Choose another directory with --output-dir, or delete those runs "
            "with --overwrite."
        )
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
            _keep_config(run, config)
            return True, None
    if overwrite or resume == "never":
        run.clear()
    _keep_config(run, config)
    return False, named or checkpoints.newest()


def _keep_config(run: RunDir, config: RunConfig) -> None:
    """Write config.yaml; one that says the same already is left alone."""
    text = to_yaml(config)
    if not run.config.is_file() or run.config.read_bytes() != text.encode():
        with replacing(run.config) as file:
            file.write(text)


def _require_same_run(run: RunDir, config: RunConfig, prepared: PreparedData) -> None:
    """Refuse to mix two runs in one directory; see `run_differences`."""
    differences = run_differences(load_config(run.config), config)
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
    return files.weights_fingerprint(
        files.resolve_model(config.model.name_or_path, revision=config.model.revision, offline=offline)
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
    checkpoints = Checkpoints(run.checkpoints, keep=config.checkpointing.keep)
    weights = load_file(checkpoints.best_weights(fitted.progress.best_step))
    if adapters := config.model.lora:
        weights = lora.merge_lora(
            weights, r=adapters.r, lora_alpha=adapters.lora_alpha, transposed=lora.transposed_layers(fitted.model)
        )
    aside = run.path / ".writing-model"
    shutil.rmtree(aside, ignore_errors=True)
    fitted.model.save_pretrained(aside, state_dict=weights)
    shutil.copytree(prepared.tokenizer_dir, aside, dirs_exist_ok=True)
    publish_directory(aside, run.model)


def _score_best(run: RunDir, config: RunConfig, prepared: PreparedData, device: torch.device) -> list[EvalReport]:
    """Score the saved model on the validation splits, with intervals, and write its model card and reports."""
    model = building.load_trained(run.model, device, trust_remote_code=config.model.trust_remote_code)
    reports = [score_prepared(model, prepared, config, split, run=run) for split in scored_splits(prepared)]
    with replacing(run.model / "README.md") as file:
        file.write(model_card(config, prepared.label_names, reports))
    for report in reports:
        write_report(run, config, prepared, report)
    return reports


def _gates(config: RunConfig, reports: list[EvalReport]) -> list[GateOutcome]:
    """The config's gates, which are about the split "validation"."""
    validation = next(report for report in reports if report.split == "validation")
    return check_report(parse_gates(config.evaluation.gates), validation)


def _with_gates(config: RunConfig, report: TrainReport) -> TrainReport:
    """The report with its gates. Raises GateFailedError, which holds it, when one fails."""
    outcomes = _gates(config, report.evaluations)
    evaluations = [replace(one, gates=outcomes) if one.split == "validation" else one for one in report.evaluations]
    report = replace(report, evaluations=evaluations)
    require_passed(outcomes, "validation", report)
    return report
