"""finetune evaluate: the scores of a trained model on a split or a file, as a gate when asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate import Accelerator

from finetune_cli import model_files, modeling
from finetune_cli.commands.gates import check_gates, parse_gate, require_computed
from finetune_cli.commands.prepare import prepare, prepare_file
from finetune_cli.commands.target import class_names, open_target
from finetune_cli.config import RunConfig
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.evaluation.scoring import ScoringRules, predictions, score_split, write_evaluation
from finetune_cli.launching import is_main_process, join_group
from finetune_cli.records import EvalReport
from finetune_cli.run_dir import RunDir
from finetune_cli.tasks import Kind, metric_problem, metrics_for
from finetune_cli.training.precision import AUTOCAST_DTYPES, choose_precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def evaluate(
    target: str | Path,
    *,
    overrides: Sequence[str] = (),
    output_dir: str | None = None,
    split: str = "validation",
    data: Path | str | None = None,
    gates: Sequence[str] = (),
    offline: bool = False,
) -> EvalReport:
    """Score a trained model on a split of its data, or on the labelled file `data`.

    target: CONFIG, RUN or MODEL; see open_target. gates: such as "f1>=0.88" or "accuracy.low>=0.8".
    The report and one prediction per row are written to the run's eval/<split>/ when the target is a run.
    In a launched group each process scores its share of the rows, and each gets the whole report. Raises
    GateFailedError, with the report as its `report`, when a gate does not hold.
    """
    parsed = [parse_gate(gate) for gate in gates]  # a typing mistake shows before the model is loaded
    found = open_target(target, overrides, output_dir=output_dir, offline=offline)
    if found.config is not None:
        require_computed(parsed, found.config.evaluation.metrics)
    state = join_group()
    model = modeling.load_trained(found.model_dir, trust_remote_code=found.trust_remote_code).to(state.device)
    if data is not None:
        prepared = prepare_file(Path(data), found, class_names(model))
        split = next(iter(prepared.splits))
    elif found.config is not None:
        prepared = prepare(found.config, offline=offline)
    else:
        raise ConfigError(
            f"{target} is a model without a config: name the labelled file to score it on with --data FILE."
        )
    report = score_prepared(model, prepared, found.config, split, run=found.run, share_work=state.num_processes > 1)
    check_gates(parsed, report)
    return report


def scoring_rules(config: RunConfig | None, label_names: tuple[str, ...] | None) -> ScoringRules:
    """How this task is scored. Raises ConfigError for a metric that the number of classes rules out."""
    kind: Kind = "regression" if label_names is None else "classification"
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
    model: PreTrainedModel,
    prepared: PreparedData,
    config: RunConfig | None,
    split: str,
    *,
    run: RunDir | None,
    share_work: bool = False,
) -> EvalReport:
    """Score one prepared split and, for a run, write eval/<split>/. Raises DataError when it has no labels.

    share_work: all processes of the group call this together, and each scores a part of the rows.
    """
    if split not in prepared.splits:
        raise DataError(f"There is no split {split!r}, only: {', '.join(prepared.splits)}.")
    rows = prepared.splits[split]
    labels = rows.known_labels()
    _require_same_classes(class_names(model), prepared.label_names)
    rules = scoring_rules(config, prepared.label_names)
    precision, _ = choose_precision(config.training.precision if config else "fp32", model.device.type)
    logits = predict_logits(
        model,
        rows,
        pad_token_id=model_files.pad_token_id(prepared.tokenizer_dir),
        device=model.device,
        accelerator=Accelerator() if share_work else None,
        autocast=AUTOCAST_DTYPES[precision],
    )
    train = prepared.splits.get("train")
    known = labels if train is None or train.labels is None else train.labels  # a file alone is its own baseline
    report = score_split(split, logits, labels, rules, train_labels=known)
    if run is not None and is_main_process():
        scored = predictions(rows.ids, logits, label_names=prepared.label_names, labels=labels)
        write_evaluation(run.evaluation(split), report, scored)
    return report


def _require_same_classes(of_model: tuple[str, ...] | None, of_data: tuple[str, ...] | None) -> None:
    if of_model != of_data:
        raise DataError(
            f"The model's classes are {list(of_model or ())}, the data's {list(of_data or ())}: expected the same "
            f"names in the same order. Set data.labels, or score the model on the data that it was trained for."
        )
