"""finetune evaluate: the scores of a trained model on a split or a file, as a gate when asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from finetune_cli import modeling
from finetune_cli.commands.gates import check_gates, parse_gate
from finetune_cli.commands.prepare import cache_dir, prepare
from finetune_cli.commands.target import Target, class_names, open_target, text_columns
from finetune_cli.config import RunConfig
from finetune_cli.data.prepared import TOKENIZER, PreparedData, PreparedSplit, open_prepared, publish
from finetune_cli.data.preparing import TextSettings, content_key, prepare_splits
from finetune_cli.data.readers import BadRow, read_rows
from finetune_cli.data.sources import file_source
from finetune_cli.data.tokenization import TextEncoder
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.evaluation.scoring import ScoringRules, predictions, score_split, write_evaluation
from finetune_cli.records import EvalReport
from finetune_cli.run_dir import RunDir
from finetune_cli.tasks import metric_problem, metrics_for
from finetune_cli.training.precision import AUTOCAST_DTYPES, available_device, choose_precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def evaluate(
    target: str,
    *,
    overrides: Sequence[str] = (),
    output_dir: str | None = None,
    split: str = "validation",
    data: Path | None = None,
    gates: Sequence[str] = (),
    offline: bool = False,
) -> EvalReport:
    """Score a trained model on a split of its data, or on the labelled file `data`.

    target: CONFIG, RUN or MODEL; see open_target. gates: such as "f1>=0.88" or "accuracy.low>=0.8".
    The report and one prediction per row are written to the run's eval/<split>/ when the target is a run.
    Raises GateFailedError, with the report as its `report`, when a gate does not hold.
    """
    parsed = [parse_gate(gate) for gate in gates]  # a typing mistake shows before the model is loaded
    found = open_target(target, overrides, output_dir=output_dir, offline=offline)
    model = modeling.load_trained(found.model_dir).to(available_device())
    if data is not None:
        split = f"file-{data.stem}"  # so that it never overwrites the scores of a split
        prepared = _prepare_file(data, split, found, class_names(model))
    elif found.config is not None:
        prepared = prepare(found.config, offline=offline)
    else:
        raise ConfigError(f"{target} is a model without a config: name the labelled file to score it on with --data FILE.")
    report = score_prepared(model, prepared, found.config, split, run=found.run)
    check_gates(parsed, report)
    return report


def scoring_rules(config: RunConfig | None, label_names: tuple[str, ...] | None) -> ScoringRules:
    """How this task is scored. Raises ConfigError for a metric that the number of classes rules out."""
    kind = "regression" if label_names is None else "classification"
    num_classes = None if label_names is None else len(label_names)
    if config is None:
        metrics = metrics_for("regression") if label_names is None else ["accuracy", "f1_macro"]
        return ScoringRules(kind, label_names, tuple(name for name in metrics if name != "loss"), samples=1000)
    problems = [metric_problem(name, kind, num_classes) for name in config.evaluation.metrics]
    if wrong := [problem for problem in problems if problem and not problem.startswith("'evaluate:")]:
        raise ConfigError("evaluation.metrics: " + "; ".join(wrong))
    bootstrap = config.evaluation.bootstrap
    return ScoringRules(
        kind, label_names, tuple(config.evaluation.metrics), bootstrap.samples, bootstrap.level, config.seed
    )


def score_prepared(
    model: PreTrainedModel, prepared: PreparedData, config: RunConfig | None, split: str, *, run: RunDir | None
) -> EvalReport:
    """Score one prepared split and, for a run, write eval/<split>/. Raises DataError when it has no labels."""
    rows = _labelled_split(prepared, split)
    _require_same_classes(class_names(model), prepared.label_names)
    rules = scoring_rules(config, prepared.label_names)
    precision, _ = choose_precision(config.training.precision if config else "fp32", model.device.type)
    logits = predict_logits(
        model,
        rows,
        pad_token_id=modeling.pad_token_id(prepared.tokenizer_dir),
        device=model.device,
        autocast=AUTOCAST_DTYPES[precision],
    )
    known = prepared.splits.get("train", rows)  # a file alone is its own baseline
    report = score_split(split, logits, rows.labels, rules, train_labels=known.labels)
    if run is not None:
        scored = predictions(rows.ids, logits, label_names=prepared.label_names, labels=rows.labels)
        write_evaluation(run.evaluation(split), report, scored)
    return report


def _prepare_file(data: Path, split: str, target: Target, label_names: tuple[str, ...] | None) -> PreparedData:
    """The rows of one labelled file, tokenised as the model was trained and cached by their content."""
    source = file_source(data)
    config = target.config
    first = next((row for row in read_rows(data) if not isinstance(row, BadRow)), None)
    settings = TextSettings(
        text=text_columns(target, list(first[1]) if first else []),
        label=config.data.label if config else "label",
        labels=label_names,
        kind="regression" if label_names is None else "classification",
        id=config.data.id if config else None,
        max_length=(config.data.max_length if config else None) or modeling.model_max_length(target.model_dir),
        truncation=config.data.truncation if config else "longest_first",
        limit=None,
    )
    key = content_key({split: source}, settings, modeling.tokenizer_fingerprint(target.model_dir))

    def build(folder: Path) -> dict[str, Any]:
        tokenizer = modeling.load_tokenizer(target.model_dir)
        tokenizer.save_pretrained(folder / TOKENIZER)
        encoder = TextEncoder(tokenizer, max_length=settings.max_length, truncation=settings.truncation)
        return prepare_splits({split: source}, settings, encoder, folder)

    directory = cache_dir() / "prepared" / key
    return open_prepared(directory) or publish(directory, build)


def _labelled_split(prepared: PreparedData, split: str) -> PreparedSplit:
    if split not in prepared.splits:
        raise DataError(f"There is no split {split!r}, only: {', '.join(prepared.splits)}.")
    rows = prepared.splits[split]
    if rows.labels is None:
        raise DataError(
            f"The split {split!r} has no labels, so it can be predicted but not scored. "
            f"Use finetune predict, or --split validation."
        )
    return rows


def _require_same_classes(of_model: tuple[str, ...] | None, of_data: tuple[str, ...] | None) -> None:
    if of_model != of_data:
        raise DataError(
            f"The model's classes are {list(of_model or ())}, the data's {list(of_data or ())}: they must have the same names "
            f"in the same order. Set data.labels, or score the model on the data that it was trained for."
        )
