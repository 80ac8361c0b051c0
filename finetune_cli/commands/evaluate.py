"""finetune evaluate: the scores of a trained model on a split or a file, as a gate when asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from finetune_cli.config.gate_syntax import Gate
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError
from finetune_cli.evaluation.decision import fit_rule, with_abstention
from finetune_cli.records.decision_rule import DecisionRule, read_rule
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.verdicts import GateOutcome
from finetune_cli.report.write import write_report
from finetune_cli.runs.decisions import FitRequest, parse_fit, require_possible, store_rule
from finetune_cli.runs.gates import (
    MaxDrop,
    check_drops,
    check_report,
    fit_note,
    parse_gates,
    parse_max_drops,
    require_computed,
    with_gates,
)
from finetune_cli.runs.rows import prepare_file, prepare_rows
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.scored_runs import read_scored_run
from finetune_cli.runs.scoring import keep_scores, score_logits, split_logits
from finetune_cli.runs.sources import data_sources, require_slices
from finetune_cli.runs.target import Target, model_task, open_target
from finetune_cli.system.files import disk_error, disk_errors_explained, is_full_or_read_only
from finetune_cli.system.group import wait_for_main_process
from finetune_cli.system.launching import GROUP_TIMEOUT_SECONDS, is_main_process, join_group

logger = logging.getLogger(__name__)


def evaluate(
    target: str | Path,
    *,
    overrides: Sequence[str] = (),
    output_dir: str | None = None,
    split: str = "validation",
    data: Path | str | None = None,
    gates: Sequence[str] = (),
    baseline: str | None = None,
    max_drops: Sequence[str] = (),
    fit: Sequence[str] = (),
    fit_for: str | None = None,
    max_error: float | None = None,
    confidence: float | None = None,
    min_confidence: float | None = None,
    all_probabilities: bool = False,
    offline: bool = False,
) -> EvalReport:
    """Score a trained model on a split of its data, or on the labelled file `data`.

    target: CONFIG, RUN or MODEL; see open_target. gates: such as "f1>=0.88" or "accuracy.low>=0.8"; those of the config
    are obeyed, too. baseline: a run, or a predictions file, that was scored on the same rows; max_drops: how much worse
    than it the target may be, such as "f1=0.01".
    fit: "temperature" and "threshold" replace the run's decision rule by one that is fitted on its validation
    split, the threshold for the metric `fit_for` (None: the one that chose the model); "abstain" adds the least
    confidence from which on at most `max_error` of the answers are wrong, with `confidence` (None: 0.9); "none" removes
    the rule. It is obeyed from then on. min_confidence: score also the rows alone whose answer has at least this
    probability; by default those that the rule answers, where it abstains.
    all_probabilities: keep the one of every class in each row, also of more than 100.
    The report, one prediction per row and pages to read are written to the run's eval/<split>/ when target is a run.
    In a launched group each process scores its share of the rows, and each gets the whole report. Raises
    GateFailedError, with the report as its `report`, when a gate does not hold.
    """
    parsed, drops = parse_gates(gates), parse_max_drops(max_drops, baseline)
    trained = open_target(target, overrides, output_dir=output_dir, offline=offline)
    request = parse_fit(fit, fit_for, trained, data, max_error=max_error, confidence=confidence)
    parsed = _checked_gates(parsed, drops, trained, target, data)  # a typing mistake shows before the model is loaded
    state = join_group(timeout_seconds=trained.config.training.ddp_timeout if trained.config else GROUP_TIMEOUT_SECONDS)
    model = trained.load(state.device)
    task = model_task(model)
    require_possible(request, min_confidence, task)
    rule = read_rule(trained.model_dir, task.classes, task.kind) if request is None else None
    prepared = _rows_to_score(trained, split, data, model, offline=offline)
    split = split if data is None else next(iter(prepared.splits))
    logits_of = cache(partial(split_logits, model, prepared, trained.config, share_work=state.num_processes > 1))
    logits = logits_of(split)
    if request is not None:
        rule = _fit_and_store(request, trained, logits_of, prepared)
    report = score_logits(
        logits, prepared, trained.config, split, run=trained.run, rule=rule, min_confidence=min_confidence
    )
    if trained.run is not None and trained.config is not None and is_main_process():
        with _told_when_not_kept(trained.run, needed=baseline is not None):
            keep_scores(trained.run, report, logits, prepared, rule=rule, all_probabilities=all_probabilities)
            write_report(trained.run, trained.config, prepared, report, file=None if data is None else Path(data))
    outcomes = check_report(parsed, report)
    if trained.run is not None and baseline is not None:
        wait_for_main_process(state)  # it writes the predictions
        outcomes += _check_drops(drops, trained.run, baseline, report)
    return with_gates(report, outcomes)


def _check_drops(drops: Sequence[MaxDrop], run: RunDir, baseline: str, report: EvalReport) -> list[GateOutcome]:
    new, other = (read_scored_run(name, report.split) for name in (str(run.path), baseline))
    return [replace(outcome, note=fit_note(report)) for outcome in check_drops(drops, new, other)]


def _checked_gates(
    gates: Sequence[Gate], drops: Sequence[MaxDrop], trained: Target, target: str | Path, data: Path | str | None
) -> list[Gate]:
    """The gates, after those of the target's config. Raises ConfigError for what this target cannot be asked."""
    if drops and trained.run is None:
        raise ConfigError(f"--baseline compares runs, whose predictions are kept, and {target} is a model. Name a run.")
    if trained.config is None:
        if data is None:
            raise ConfigError(
                f"{target} is a model without a config: name the labelled file to score it on with --data FILE."
            )
        return list(gates)
    evaluation = trained.config.evaluation
    require_computed([*gates, *drops], evaluation.metrics, intervals=evaluation.bootstrap.samples > 0)
    return [*parse_gates(evaluation.gates), *gates]


@contextmanager
def _told_when_not_kept(run: RunDir, *, needed: bool) -> Iterator[None]:
    """Files of a run that cannot be written cost no scores: they are on their way to the terminal. needed: they are
    read again by what comes after, so that it is an error."""
    try:
        yield
    except OSError as err:
        if not is_full_or_read_only(err):
            raise
        if needed:
            raise disk_error(err, run.path) from err
        logger.warning(
            "%s: %s. The scores are shown, and not kept: compare and the report pages know nothing of them.",
            run.path,
            err.strerror or err,
        )


def _rows_to_score(
    trained: Target, split: str, data: Path | str | None, model: PreTrainedModel, *, offline: bool
) -> PreparedData:
    """The prepared rows of `data`, or all splits of the config."""
    if data is not None:
        return prepare_file(Path(data), trained, model_task(model))
    assert trained.config is not None, "a target without a config is scored on a file"
    prepared = prepare_rows(trained.config, offline=offline, about=(split,))
    _warn_of_other_data(trained, prepared, split)
    if trained.config.evaluation.slices and split in prepared.splits:
        require_slices(data_sources(trained.config, offline=offline)[split], trained.config)
    return prepared


def _warn_of_other_data(trained: Target, prepared: PreparedData, split: str) -> None:
    """Say it where the run was trained on other data than its config finds now: a share of train is drawn anew then."""
    trained_on = trained.run.read_record().fingerprints.data if trained.run else None
    if trained_on in (None, prepared.key) or not is_main_process():
        return
    message = "The data have changed since this run was trained on them, or are read in another way."
    if trained.config is not None and isinstance((trained.config.data.splits or {}).get(split), float):
        message += (
            f" The split {split} is a share of train, and was drawn anew: the model has been trained on some of its "
            f"rows, so the score is too high. Score it on rows that it has not seen: --data FILE"
        )
    logger.warning(message)


def _fit_and_store(
    request: FitRequest, trained: Target, logits_of: Callable[[str], np.ndarray], prepared: PreparedData
) -> DecisionRule | None:
    """The rule that was asked for, from the logits (N, C) of the validation rows, beside the weights from now on."""
    rule = None
    if not request.removes:
        data = (logits_of("validation"), prepared.splits["validation"].known_labels(), prepared.label_names or ())
        rule = fit_rule(*data, prepared.kind, temperature=request.temperature, metric=request.metric)
        if request.max_error is not None:
            level = request.confidence
            rule = with_abstention(rule, *data, prepared.kind, max_error=request.max_error, level=level)
    if is_main_process():
        with disk_errors_explained(trained.model_dir):
            store_rule(trained.model_dir, rule)
    return rule
