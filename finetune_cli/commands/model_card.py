"""The README.md of a saved model: what it does, how it scored, how to use it, in the Hub's model card form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import yaml

from finetune_cli.config import RunConfig
from finetune_cli.records import EvalReport

USE = """```python
from transformers import pipeline

classify = pipeline("text-classification", "PATH_OR_REPO")
print(classify({example}))
```"""


def model_card(config: RunConfig, label_names: Sequence[str] | None, reports: Sequence[EvalReport]) -> str:
    """Markdown with the Hub's metadata in front: task, scores with their intervals as `model-index`, settings, use."""
    name = f"{_base_name(config)} fine-tuned on {config.task}"
    sections = [
        "---\n" + yaml.safe_dump(_metadata(config, name, reports), sort_keys=False, allow_unicode=True) + "---",
        f"# {name}",
        _purpose(config, label_names),
        "## Scores\n\n" + _score_table(reports),
        "## Use\n\n"
        + USE.format(example='{"text": "...", "text_pair": "..."}' if len(config.data.text) == 2 else '"..."'),
        "## Training\n\n" + _settings_table(config),
    ]
    return "\n\n".join(sections) + "\n"


def _base_name(config: RunConfig) -> str:
    return config.model.name_or_path or "a small BERT trained from scratch"


def _purpose(config: RunConfig, label_names: Sequence[str] | None) -> str:
    text = " and ".join(f"`{column}`" for column in config.data.text)
    if label_names is None:
        return f"Predicts the number `{config.data.label}` from {text}. Trained on `{config.data.path}`."
    names = ", ".join(f"`{name}`" for name in label_names)
    return f"Tells from {text} which of these classes a row has: {names}. Trained on `{config.data.path}`."


def _metadata(config: RunConfig, name: str, reports: Sequence[EvalReport]) -> dict[str, Any]:
    results = [
        {
            "task": {"type": "text-classification"},
            "dataset": {"name": config.task, "type": config.data.path, "split": report.split},
            "metrics": [
                {"type": metric, "value": round(value.value, 4)}
                for metric, value in report.metrics.items()
                if math.isfinite(value.value)
            ],
        }
        for report in reports
    ]
    base = {"base_model": config.model.name_or_path} if config.model.name_or_path else {}
    return {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        **base,
        "tags": ["text-classification", "finetune-cli"],
        "model-index": [{"name": name, "results": results}],
    }


def _score_table(reports: Sequence[EvalReport]) -> str:
    rows = [
        "| split | rows | metric | value | interval | always the commonest class |",
        "| --- | ---: | --- | ---: | --- | ---: |",
    ]
    for report in reports:
        for metric, value in report.metrics.items():
            interval = "" if value.low is None or value.high is None else f"[{value.low:.3f}, {value.high:.3f}]"
            baseline = f"{report.baseline[metric]:.3f}" if metric in report.baseline else ""
            rows.append(f"| {report.split} | {report.n} | {metric} | {value.value:.3f} | {interval} | {baseline} |")
    return "\n".join(rows)


def _settings_table(config: RunConfig) -> str:
    training = config.training
    settings = {
        "loop": training.loop,
        "epochs": training.num_epochs if training.max_steps is None else f"{training.max_steps} updates",
        "batch size": training.batch_size,
        "learning rate": training.learning_rate,
        "schedule": training.lr_scheduler,
        "weight decay": training.weight_decay,
        "precision": training.precision,
        "max_length": config.data.max_length or "the model's limit",
        "seed": config.seed,
    }
    return "\n".join(
        ["| setting | value |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in settings.items())]
    )
