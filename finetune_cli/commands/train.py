"""finetune train: prepared data and a model in, the best model with its scores and history out."""

from __future__ import annotations

import logging
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from accelerate.utils.memory import clear_device_cache
from safetensors.torch import load_file

from finetune_cli.commands.folds import train_folds
from finetune_cli.commands.learning_curve import train_shares
from finetune_cli.commands.seeds import train_seeds
from finetune_cli.config.dump import to_yaml
from finetune_cli.config.fields import HubConfig, RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.data.apart import require_apart
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError, ExitCode
from finetune_cli.models import building, files, four_bit, lora
from finetune_cli.records.evaluation import EvalReport, GateOutcome
from finetune_cli.records.folds import FoldsReport
from finetune_cli.records.learning_curve import CurveReport
from finetune_cli.records.run import Fingerprints, RunRecord
from finetune_cli.records.training import Listener, SeedsReport, TrainReport
from finetune_cli.report.write import write_report
from finetune_cli.runs.candidates import write_candidates
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.final import require_folds, require_folds_to_come, take_scores_of_folds
from finetune_cli.runs.fit import Fit, fit
from finetune_cli.runs.gates import check_report, parse_gates, require_passed
from finetune_cli.runs.hub_upload import is_uploaded, require_write_access, upload
from finetune_cli.runs.long_texts import keep_reading
from finetune_cli.runs.model_card import model_card
from finetune_cli.runs.parts import scored_splits
from finetune_cli.runs.requirements import require_tools
from finetune_cli.runs.rows import prepare_rows
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.scoring import score_prepared, scoring_rules, warn_of_undefined
from finetune_cli.runs.session import locked, model_name, note_scores, read_report, recorded, run_differences
from finetune_cli.runs.sharding import require_supported_launch
from finetune_cli.runs.target import answering_dtype
from finetune_cli.runs.tracking import tracked
from finetune_cli.system.allocator import give_back_freed_memory
from finetune_cli.system.devices import mention_idle_gpus
from finetune_cli.system.files import publish_directory, replacing
from finetune_cli.system.group import wait_for_main_process
from finetune_cli.system.launching import is_main_process, join_group, launched_processes
from finetune_cli.system.places import in_home
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
    if final:
        require_folds_to_come(config)
    if seeds is None and shares is None and (folds is None or folds.fold is not None):
        if config.sweep is not None:
            logger.info("The section sweep is for finetune sweep; this trains the config's own values.")
        return _train_one(
            config,
            resume=resume,
            overwrite=overwrite,
            push=push,
            offline=offline,
            listen=listen,
            data_known=data_known,
        )
    if resume not in ("auto", "never"):
        raise ConfigError(
            "--resume PATH goes on with one run. With several seeds, folds or shares, name that one's own config."
        )

    def train_member(one: RunConfig) -> TrainReport:
        nonlocal data_known
        known, data_known = data_known or bool(shares), True  # the same rows, nearly the same, or said by now
        try:
            return _train_one(
                one, resume=resume, overwrite=False, push=False, offline=offline, listen=listen, data_known=known
            )
        finally:
            clear_device_cache(garbage_collection=True)

    def train_share(one: RunConfig) -> TrainReport | SeedsReport:
        return train_seeds(one, train_member, listen=listen) if seeds else train_member(one)

    if shares is not None:
        return train_shares(config, train_share, overwrite=overwrite, offline=offline, listen=listen)
    if seeds is not None:
        return train_seeds(config, train_member, overwrite=overwrite, listen=listen)
    return train_folds(config, train_member, final=final, overwrite=overwrite, offline=offline, listen=listen)


def _train_one(
    config: RunConfig,
    *,
    resume: str,
    overwrite: bool,
    push: bool,
    offline: bool,
    listen: Listener,
    data_known: bool = False,
) -> TrainReport:
    """See train. data_known: what the data checks find was said before."""
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
        opened = _open_run(context, resume=resume, overwrite=overwrite) if is_main_process() else None
        require_supported_launch(config)
        state = join_group(timeout_seconds=config.training.ddp_timeout)
        if launched_processes() == 1:
            mention_idle_gpus()
        finished, checkpoint = _same_everywhere(opened)
        if not finished:
            started = _facts_at_start(context, checkpoint)
            with recorded(run, started) if state.is_main_process else nullcontext(started) as record:
                warn_of_undefined(context)
                with tracked(context, going_on=checkpoint is not None) as heard:
                    fitted = fit(replace(context, listen=heard), checkpoint)
                give_back_freed_memory()  # activations and moments; the best model is read into memory next
                if state.is_main_process:
                    _note_training(record, fitted, prepared, checkpoint)
                    run.write_record(record)  # the reports say which update was the best
                    _export_best(context, fitted)
                    reports = _score_best(context, fitted)
                    note_scores(record, config, reports)
                    if not all(outcome.passed for outcome in _gates(config, reports)):
                        record.exit_code = ExitCode.GATE_FAILED
            wait_for_main_process(state)
        return _conclude(context, hub, push=push, already_finished=finished)


def _open_run(context: RunContext, *, resume: str, overwrite: bool) -> tuple[bool, Path | None]:
    """Whether the run is finished already, and the checkpoint to continue from; refuses another config or data."""
    run, config, checkpoints = context.run, context.config, context.checkpoints()
    if run.members() and not overwrite:
        raise ConfigError(
            f"{run.path} holds several runs, such as {run.members()[0].path.name}. Choose another directory with "
            "--output-dir, or delete those runs with --overwrite."
        )
    named = None if resume in ("auto", "never") else checkpoints.undamaged(in_home(resume))
    if named and overwrite:
        raise ConfigError(f"--overwrite would delete this run's checkpoints, and --resume {named} needs one. Drop one.")
    if run.holds_work() and not overwrite:
        _require_same_run(context)
        finished = run.read_record().is_finished
        if finished and resume == "never":
            raise ConfigError(f"{run.path} holds a finished run. To train it anew from the start, say --overwrite.")
        if finished and named is None:
            _keep_config(run, config)
            return True, None
    if overwrite or resume == "never":
        run.clear()
    _keep_config(run, config)
    checkpoint = named or checkpoints.newest()
    if checkpoint is not None and config.model.dtype == "nf4":
        _require_same_body(context)
    return False, checkpoint


def _keep_config(run: RunDir, config: RunConfig) -> None:
    """Write config.yaml; one that says the same already is left alone."""
    text = to_yaml(config)
    if not run.config.is_file() or run.config.read_bytes() != text.encode():
        with replacing(run.config) as file:
            file.write(text)


def _require_same_run(context: RunContext) -> None:
    """Refuse to mix two runs in one directory; see `run_differences`."""
    run = context.run
    differences = run_differences(load_config(run.config), context.config)
    key = run.read_record().fingerprints.data
    if key not in (None, context.prepared.key) and not differences:
        differences = ["  the rows, the tokenizer or the way that texts are encoded have changed"]
    if differences:
        raise ConfigError(
            f"{run.path} holds a run with another config or other data:\n"
            + "\n".join(differences)
            + "\nChoose another directory with --output-dir, or delete that run and start anew with --overwrite."
        )


def _require_same_body(context: RunContext) -> None:
    """Refuse to go on beside another body than the run began with: its checkpoints hold what is trained alone."""
    if context.run.read_record().fingerprints.model not in (None, _model_fingerprint(context)):
        raise ConfigError(
            f"{context.run.path} was begun with other files of {context.config.model.name_or_path}, and with "
            f"model.dtype: nf4 its checkpoints do not hold them. Bring those files back, or start anew: --overwrite"
        )


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
        fingerprints=Fingerprints(context.prepared.key, known or _model_fingerprint(context)),
    )


def _model_fingerprint(context: RunContext) -> str | None:
    """SHA-256 of the pretrained model that the run starts from; None for a new one, which config and seed decide."""
    settings = context.config.model
    if settings.name_or_path is None or not is_main_process():
        return None
    return files.weights_fingerprint(
        files.resolve_model(settings.name_or_path, revision=settings.revision, offline=context.offline)
    )


def _note_training(record: RunRecord, fitted: Fit, prepared: PreparedData, checkpoint: Path | None) -> None:
    """Add to the record what is known once the last update is done."""
    progress, rows = fitted.progress, prepared.splits["train"].num_rows
    record.precision = fitted.mixed_precision.replace("no", "fp32")
    record.micro_batch_size = fitted.micro_batch_size
    record.steps, record.best_step, record.resumed_from = progress.step, progress.best_step, step_of(checkpoint)
    record.skipped_updates = progress.skipped_updates
    record.training_seconds = progress.seconds
    record.rows_per_second = fitted.epochs * rows / progress.seconds
    record.torch_threads = torch.get_num_threads()


def _export_best(context: RunContext, fitted: Fit) -> None:
    """Put the best checkpoint's weights, with configuration and tokenizer, into `model/`, in one piece."""
    run = context.run
    weights = load_file(context.checkpoints().best_weights(fitted.progress.best_step))
    if context.config.model.dtype == "nf4":  # what stays in 4 bits is not in the checkpoints
        weights = {**four_bit.whole_weights(fitted.model), **weights}
    if adapters := context.config.model.lora:
        weights = lora.merge_lora(
            weights, r=adapters.r, lora_alpha=adapters.lora_alpha, transposed=lora.transposed_layers(fitted.model)
        )
    aside = run.path / ".writing-model"
    shutil.rmtree(aside, ignore_errors=True)
    fitted.model.save_pretrained(aside, state_dict=weights)
    shutil.copytree(context.prepared.tokenizer_dir, aside, dirs_exist_ok=True)
    keep_reading(aside, context.config.data, context.prepared.report.max_length)
    publish_directory(aside, run.model)


def _score_best(context: RunContext, fitted: Fit) -> list[EvalReport]:
    """Score the saved model on the validation splits, with intervals, and write its model card and reports.

    A final model has the folds' scores.
    """
    run, config, prepared = context.run, context.config, context.prepared
    write_candidates(context, fitted.kept, fitted.progress.best_step)
    model = building.load_trained(
        run.model,
        fitted.device,
        trust_remote_code=config.model.trust_remote_code,
        dtype=answering_dtype(config),
    )
    reports = [score_prepared(model, prepared, config, split, run=run) for split in scored_splits(prepared)]
    for report in reports:
        write_report(run, config, prepared, report)
    if config.data.trains_on_all_rows:
        reports = [take_scores_of_folds(run)]
    with replacing(run.model / "README.md") as file:
        file.write(model_card(config, prepared.label_names, reports))
    return reports


def _conclude(context: RunContext, hub: HubConfig | None, *, push: bool, already_finished: bool) -> TrainReport:
    """The report with its gates, and the model where `hub` says. Raises GateFailedError, which holds the report."""
    run = context.run
    report = read_report(run, already_finished=already_finished)
    outcomes = _gates(context.config, report.evaluations)
    evaluations = [replace(one, gates=outcomes) if one.split == "validation" else one for one in report.evaluations]
    report = replace(report, evaluations=evaluations)
    if hub and not all(outcome.passed for outcome in outcomes):
        logger.warning("A gate failed: nothing is uploaded to %s.", hub.repo_id)
    require_passed(outcomes, "validation", report)
    if hub and (push or not is_uploaded(run, hub)):
        report = replace(report, uploaded_to=upload(run, hub))
    return report


def _gates(config: RunConfig, reports: list[EvalReport]) -> list[GateOutcome]:
    """The config's gates, which are about the split "validation"."""
    validation = next(report for report in reports if report.split == "validation")
    return check_report(parse_gates(config.evaluation.gates), validation)
