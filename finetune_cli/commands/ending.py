"""How `train` ends: the best model is exported, scored and reported, its gates checked, and it is uploaded."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

from safetensors.torch import load_file

from finetune_cli.config.fields import HubConfig
from finetune_cli.models import building, four_bit, lora
from finetune_cli.records.evaluation import EvalReport, of_split
from finetune_cli.records.training import TrainReport
from finetune_cli.report.write import write_report
from finetune_cli.runs.candidates import write_candidates
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.fit import Fit
from finetune_cli.runs.folds import take_scores_of_folds
from finetune_cli.runs.gates import check_config_gates, require_passed
from finetune_cli.runs.hub import is_uploaded, upload
from finetune_cli.runs.long_texts import keep_reading
from finetune_cli.runs.model_card import model_card
from finetune_cli.runs.scoring import score_model
from finetune_cli.runs.session import read_report
from finetune_cli.runs.target import answering_dtype
from finetune_cli.runs.validation import scored_splits
from finetune_cli.system.files import publish_directory, write_text

logger = logging.getLogger(__name__)


def export_best(context: RunContext, fitted: Fit) -> None:
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


def score_best(context: RunContext, fitted: Fit) -> list[EvalReport]:
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
    reports = [score_model(context, model, split) for split in scored_splits(prepared)]
    for report in reports:
        write_report(run, config, prepared, report)
    if config.data.trains_on_all_rows:
        reports = [take_scores_of_folds(run)]
    write_text(run.model / "README.md", model_card(config, prepared.label_names, reports))
    return reports


def conclude(context: RunContext, hub: HubConfig | None, *, push: bool, already_finished: bool) -> TrainReport:
    """The report with its gates, and the model where `hub` says. Raises GateFailedError, which holds the report."""
    run = context.run
    report = read_report(run, already_finished=already_finished)
    outcomes = check_config_gates(context.config, of_split(report.evaluations))
    evaluations = [replace(item, gates=outcomes) if item.split == "validation" else item for item in report.evaluations]
    report = replace(report, evaluations=evaluations)
    if hub and not all(outcome.passed for outcome in outcomes):
        logger.warning("A gate failed: nothing is uploaded to %s.", hub.repo_id)
    require_passed(outcomes, "validation", report)
    if hub and (push or not is_uploaded(run, hub)):
        report = replace(report, uploaded_to=upload(run, hub))
    return report
