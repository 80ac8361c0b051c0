"""The README.md of a saved model: what it does, how it scored, how to use it, in the Hub's model card form."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from finetune_cli.config.dump import leaves, with_references
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.sections.model import ModelConfig
from finetune_cli.config.sections.training import TrainingConfig
from finetune_cli.data.hub import HUB_ID
from finetune_cli.errors import counted
from finetune_cli.models.files import LONG_TEXTS_FILE
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.system.places import in_home
from finetune_cli.tasks import KIND_SPECS

USE = """```python
from transformers import pipeline

classify = pipeline("text-classification", "PATH_OR_REPO")
print(classify({example}{options}))
```"""

TABLE_BAR = "\\|"  # a bar inside a cell
NAMED = {  # settings with a row of their own, whatever their value
    "model.name_or_path",
    *(f"training.{name}" for name in ("loop", "num_epochs", "max_steps", "batch_size", "learning_rate")),
    *(f"training.{name}" for name in ("lr_scheduler", "weight_decay", "precision")),
}


def model_card(config: RunConfig, label_names: Sequence[str] | None, reports: Sequence[EvalReport]) -> str:
    """Markdown with the Hub's metadata in front: task, scores with their intervals as `model-index`, settings, use."""
    name = f"{_base_name(config)} fine-tuned on {config.task}"
    sections = [
        f"---\n{_metadata(config, name, reports).to_yaml()}\n---",
        f"# {name}",
        _purpose(config, label_names),
        "## Scores\n\n" + _score_table(reports),
        "## Use\n\n"
        + USE.format(
            example='{"text": "...", "text_pair": "..."}' if len(config.data.text) == 2 else '"..."',
            options=", top_k=None" if KIND_SPECS[config.spec.kind].several_labels else "",
        )
        + _long_texts(config),
        "## Training\n\n" + _settings_table(config),
    ]
    return "\n\n".join(sections) + "\n"


def _long_texts(config: RunConfig) -> str:
    """What plain transformers does otherwise than the training did."""
    if isinstance(config.data.long_texts, str):
        return ""
    how = "in windows" if config.data.long_texts.windows else "from both ends"
    return (
        f"\n\nTexts longer than `max_length` were read {how}, as `{LONG_TEXTS_FILE}` says. `finetune predict` reads "
        f"them so; plain transformers cuts them, and answers otherwise."
    )


def _base_name(config: RunConfig) -> str:
    name = config.model.name_or_path
    if name is None:
        return "a small BERT trained from scratch"
    run = in_home(name).resolve().parent
    return run.name if Path(name).name == "model" and RunDir(run).config.is_file() else _shown(name, config)


def _is_hub_id(place: str, config: RunConfig) -> bool:
    """Whether a model or data set is one of the Hub; the name of a directory here may look the same, or be a secret."""
    return bool(HUB_ID.fullmatch(place)) and not Path(place).exists() and with_references(place, config) == place


def _shown(place: str, config: RunConfig) -> str:
    """A place as the card names it: of a path on this machine the last part, since the card may be published; with the
    config's references in place of secrets."""
    if (told := with_references(place, config)) != place:
        return Path(told).name
    is_path = in_home(place).exists() and not _is_hub_id(place, config)
    return in_home(place).resolve().name if is_path else place


def _purpose(config: RunConfig, label_names: Sequence[str] | None) -> str:
    text = " and ".join(f"`{column}`" for column in config.data.text)
    source = f"Trained on `{_shown(config.data.path, config)}`."
    if label_names is None:
        return f"Predicts the number `{config.data.label}` from {text}. {source}"
    names = ", ".join(f"`{name}`" for name in label_names)
    if KIND_SPECS[config.spec.kind].several_labels:
        return (
            f"Tells from {text} which of these classes a row has, any number of them: {names}. A class is given from a "
            f"probability of 0.5 on. {source}"
        )
    return f"Tells from {text} which of these classes a row has: {names}. {source}"


def _metadata(config: RunConfig, name: str, reports: Sequence[EvalReport]) -> ModelCardData:
    """What the Hub reads. It refuses a card with names that it cannot have: a path is no base model and no data set."""
    base, data = config.model.name_or_path, config.data.path
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=_shown(data, config),
            dataset_name=config.task,
            dataset_split=report.split,
            metric_type=metric,
            metric_value=round(score.value, 4),
        )
        for report in reports
        for metric, score in report.metrics.items()
        if math.isfinite(score.value)
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model=base if base and _is_hub_id(base, config) else None,
        datasets=[data] if _is_hub_id(data, config) else None,
        tags=["text-classification", "finetune-cli"],
        model_name=name,
        eval_results=results,
    )


def _score_table(reports: Sequence[EvalReport]) -> str:
    """The corrected scores have a column where the model was chosen on the rows; below it says whether it was."""
    baseline_answer = reports[0].baseline_answer if reports else "the commonest class"
    corrected = any(report.shows_corrected for report in reports)
    header = ["split", "rows", "metric", "value", "interval", *(["corrected"] if corrected else [])]
    rows = [
        [*header, f"always {baseline_answer}"],
        ["---", "---:", "---", "---:", *["---"] * (len(header) - 4), "---:"],
    ]
    for report in reports:
        for metric, value in report.metrics.items():
            interval = "" if value.low is None or value.high is None else f"[{value.low:.3f}, {value.high:.3f}]"
            baseline = f"{report.baseline[metric]:.3f}" if metric in report.baseline else ""
            beside = [str(report.corrected.get(metric, ""))] if corrected else []
            rows.append([report.split, str(report.n), metric, f"{value.value:.3f}", interval, *beside, baseline])
    said = [f"{report.split}: {report.said_of_choice}" for report in reports if report.said_of_choice]
    if any(report.folds for report in reports):
        said.append(
            "This model was trained on all of these rows in the same way, so that none is left to score it on: the "
            "scores are those of the other models."
        )
    return "\n\n".join(["\n".join(f"| {' | '.join(row)} |" for row in rows), *said])


def _settings_table(config: RunConfig) -> str:
    training = config.training
    length = counted(
        *((training.num_epochs, "epoch") if training.max_steps is None else (training.max_steps, "update"))
    )
    settings = {
        "base model": _base_name(config),
        "loop": training.loop,
        "length": length,
        "batch size": training.batch_size,
        "learning rate": training.learning_rate,
        "schedule": training.lr_scheduler,
        "weight decay": training.weight_decay,
        "precision": training.precision,
        "max_length": config.data.max_length or "the model's limit",
        "seed": config.seed,
        **({"share of train": f"{config.data.share:g}"} if config.data.share else {}),
        **_further_settings(config),
    }
    rows = [f"| {key} | {str(value).replace('|', TABLE_BAR)} |" for key, value in settings.items()]
    return "\n".join(["| setting | value |", "| --- | --- |", *rows])


def _further_settings(config: RunConfig) -> dict[str, str]:
    """What else of `model` and `training` differs from its default, by its key in the config."""
    now = [*leaves(config.model, "model"), *leaves(config.training, "training")]
    default = dict([*leaves(ModelConfig(), "model"), *leaves(TrainingConfig(), "training")])
    changed = {key: value for key, value in now if key not in NAMED and (key not in default or value != default[key])}
    return {f"`{key}`": _setting(value, config) for key, value in changed.items()}


def _setting(value: object, config: RunConfig) -> str:
    return _shown(value, config) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
