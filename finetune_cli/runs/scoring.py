"""The scores of a prepared split: how the task is scored, the model's logits, and the files of an evaluation."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedModel

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.evaluation.scoring import (
    ScoringRules,
    decision_effect,
    predictions,
    score_answered,
    score_split,
    write_evaluation,
)
from finetune_cli.records.decision_rule import DecisionRule
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.resampling import Resampling
from finetune_cli.runs.candidates import with_choice
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.target import model_task, prepare_to_answer
from finetune_cli.runs.text_baseline import with_text_baseline
from finetune_cli.system.launching import is_main_process
from finetune_cli.tasks import TASKS, metric_problem

logger = logging.getLogger(__name__)

FAR_FROM_ZERO = 10.0  # of numbers to learn, their mean or deviation; STS-B's go from 0 to 5


def scoring_rules(config: RunConfig | None, prepared: PreparedData) -> ScoringRules:
    """How this task is scored. Raises ConfigError for a metric that the number of classes rules out."""
    kind, label_names = prepared.kind, prepared.label_names
    num_classes = None if label_names is None else len(label_names)
    if config is None:
        return ScoringRules(kind, label_names, TASKS[kind].metrics, Resampling())
    problems = [metric_problem(name, kind, num_classes) for name in config.evaluation.metrics]
    if wrong := [problem for problem in problems if problem and not problem.startswith("'evaluate:")]:
        raise ConfigError("evaluation.metrics: " + "; ".join(wrong))
    return ScoringRules(kind, label_names, tuple(config.evaluation.metrics), config.resampling)


def warn_of_undefined(context: RunContext) -> None:
    """Say before the training when metric_for_best can have no value on the validation rows, whatever is answered:
    AUROC where they lack a class, a correlation with labels that are all the same."""
    name, rules = context.config.evaluation.metric_for_best, context.rules
    if name is None or name not in KINDS[rules.kind].score_metrics:
        return
    labels = context.prepared.splits["validation"].known_labels()
    shape = labels.shape if rules.label_names is None or labels.ndim == 2 else (len(labels), len(rules.label_names))
    scores = np.random.default_rng(0).random(shape)
    if math.isnan(compute_metrics([name], scored_rows(labels, scores, rules.kind))[name]):
        why = "all their labels are the same" if rules.label_names is None else "some class has no row, or every row"
        logger.warning(
            "evaluation.metric_for_best: %s is not defined on the validation rows: %s. The lowest loss will choose the "
            "best model, and early stopping will not act. Choose another metric, or other validation rows.",
            name,
            why,
        )


def warn_of_far_numbers(context: RunContext) -> None:
    """Say before the training when the numbers to learn lie far from 0, where every new head begins."""
    labels = context.prepared.splits["train"].known_labels()
    if context.rules.kind != "regression" or max(abs(float(labels.mean())), float(labels.std())) <= FAR_FROM_ZERO:
        return
    logger.warning(
        "%s: numbers with a mean of %.4g and a standard deviation of %.4g. A new model answers about 0 and moves "
        "slowly, so it may never reach them. Scale them to about -2 to 2, such as (x - mean) / deviation.",
        context.config.data.label,
        labels.mean(),
        labels.std(),
    )


def score_model(context: RunContext, model: PreTrainedModel, split: str) -> EvalReport:
    """Score a split of a run as its saved model answers it, and write eval/<split>/; see split_logits."""
    config, prepared, run = context.config, context.prepared, context.run
    logits = split_logits(model, prepared, config, split, share_work=False)
    report = score_logits(logits, prepared, config, split, run=run)
    keep_scores(run, report, logits, prepared)
    return report


def split_logits(
    model: PreTrainedModel, prepared: PreparedData, config: RunConfig | None, split: str, *, share_work: bool
) -> np.ndarray:
    """Logits (N, C) of a split with labels. Raises DataError when it has none, or the model other classes.

    share_work: all processes of the group call this together, and each takes a part of the rows.
    """
    require_fitting(model, prepared, config, split)
    return predict_logits(
        model,
        prepared.splits[split],
        pad_token_id=prepared.pad_token_id,
        max_length=prepared.report.max_length,
        device=model.device,
        accelerator=Accelerator() if share_work else None,
        autocast=prepare_to_answer(config, model.device),
        max_tokens=config.training.micro_batch_tokens if config else None,
    )


def require_fitting(model: PreTrainedModel, prepared: PreparedData, config: RunConfig | None, split: str) -> None:
    """Raise DataError when a split has no labels or the model other classes, ConfigError for a metric that is none."""
    require_split(prepared, config, split)
    prepared.splits[split].known_labels()
    task = model_task(model)
    _require_same_classes(task.classes, prepared.label_names)
    if task.kind != prepared.kind:
        raise DataError(
            f"The model is for {task.kind}, and the labels are for {prepared.kind}. Score it on data of the "
            f"kind that it was trained for."
        )
    scoring_rules(config, prepared)  # a metric that does not fit shows before the rows are run


def require_split(prepared: PreparedData, config: RunConfig | None, split: str) -> None:
    """Raise DataError when there is no such split to score."""
    if split in prepared.splits:
        return
    there = f"There is no split {split!r}, only: {', '.join(prepared.splits)}."
    if config is not None and config.data.trains_on_all_rows:
        there += (
            f" This model was trained on all rows: its scores are those of the folds, in {config.output_dir}/eval. "
            "Score it on others with --split or --data FILE."
        )
    raise DataError(there)


def score_logits(
    logits: np.ndarray,
    prepared: PreparedData,
    config: RunConfig | None,
    split: str,
    *,
    run: RunDir | None,
    rule: DecisionRule | None = None,
    min_confidence: float | None = None,
) -> EvalReport:
    """The scores of a split's logits under a decision rule; for a run, corrected for the choice of its model and with
    the baseline of the words beside them.

    min_confidence: score the rows alone whose answer reaches it as well; by default those that the rule answers.
    """
    if min_confidence is None and rule is not None and rule.abstention is not None:
        min_confidence = rule.abstention.below
    labels = prepared.splits[split].known_labels()
    rules = replace(scoring_rules(config, prepared), decision=rule)
    train = prepared.splits.get("train")
    known = labels if train is None or train.labels is None else train.labels  # a file alone is its own baseline
    report = score_split(split, logits, labels, rules, train_labels=known)
    if rule is not None:
        of_answers = KINDS[rules.kind].count_metrics
        metric = rule.metric or next((name for name in rules.metrics if name in of_answers), "accuracy")
        report = replace(report, decision=decision_effect(split, logits, labels, rules, metric=metric))
    if run is not None and config is not None:
        report = with_choice(report, run, config, prepared)
        report = with_text_baseline(report, logits, prepared, config, rules, run=run)
    if min_confidence is not None:
        report = replace(report, answered=score_answered(logits, labels, rules, min_confidence=min_confidence))
    return report


def keep_scores(
    run: RunDir,
    report: EvalReport,
    logits: np.ndarray,
    prepared: PreparedData,
    *,
    rule: DecisionRule | None = None,
    all_probabilities: bool = False,
) -> None:
    """Write a split's scores and one prediction per row to the run's eval/<split>/, in the main process."""
    if not is_main_process():
        return
    rows = prepared.splits[report.split]
    scored = predictions(
        rows.ids,
        logits,
        kind=prepared.kind,
        label_names=prepared.label_names,
        labels=rows.known_labels(),
        decision=rule,
        all_probabilities=all_probabilities,
    )
    write_evaluation(run.evaluation(report.split), replace(report, answered=None, gates=[]), scored)


def _require_same_classes(of_model: tuple[str, ...] | None, of_data: tuple[str, ...] | None) -> None:
    if of_model != of_data:
        raise DataError(
            f"The model's classes are {list(of_model or ())}, the data's {list(of_data or ())}: expected the same "
            f"names in the same order. Set data.labels, or score the model on the data that it was trained for."
        )
