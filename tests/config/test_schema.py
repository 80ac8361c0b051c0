"""The schema that editors read agrees with what load_config accepts and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.config.reference import END, START, reference_text
from finetune_cli.config.schema import schema, schema_text
from finetune_cli.config.yaml_source import parse_yaml
from finetune_cli.errors import ConfigError
from finetune_cli.tasks import METRICS, TASKS

ROOT = Path(__file__).resolve().parents[2]
LEAST = "task: classification\nmodel: {name_or_path: m}\ndata: {path: d, text: t}\n"
check = fastjsonschema.compile(json.loads(schema_text()), use_default=False)


def accepted(text: str) -> bool:
    """Whether the schema takes a config's text, as our YAML reader sees it."""
    try:
        check(parse_yaml(text, "c.yaml").data)
    except fastjsonschema.JsonSchemaException:
        return False
    return True


def loads(text: str, tmp_path: Path) -> bool:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_config(path)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_takes_every_shipped_config(path: Path) -> None:
    assert accepted(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "more",
    [
        "training: {num_epochs: 1, batch_size: 4, warmup_steps: 0.1, max_grad_norm: null}",
        "training: {warmup_steps: 5, micro_batch_size: auto, trainer_args: {adam_beta1: 0.8, optim: sgd}}",
        "training: {class_weights: {a: 2}, seeds: [1, 2], early_stopping: {patience: 2}}",
        "training:",
        "checkpointing: {every: null}",
        "evaluation: {metrics: null, metric_for_best: null}",
        "evaluation: {metrics: [accuracy, 'evaluate:./mine'], slices: [a], gates: ['accuracy>=0.5']}",
        "hub: {repo_id: a/b}",
        "output_dir: null",
        "tracking: [wandb]",
    ],
)
def test_takes_what_is_right(more: str, tmp_path: Path) -> None:
    assert loads(f"{LEAST}{more}\n", tmp_path)
    assert accepted(f"{LEAST}{more}\n")


@pytest.mark.parametrize(
    "more",
    [
        "training: {lerning_rate: 1}",
        "trainig: {}",
        "training: {batch_size: 0}",
        "training: {batch_size: 2.5}",
        "training: {batch_size: '8'}",
        "training: {num_epochs: -1}",
        "training: {loop: pytorch}",
        "training: {trainer_args: {push_to_hub: true}}",
        "training: {trainer_args: {optim: adam}}",
        "training: {seeds: [1]}",
        "evaluation: {metrics: [acuracy]}",
        "evaluation: {metrics: []}",
        "model: {dropout: 1}",
        "tracking: wandb",
        "hub: {private: true}",
        "seed: -1",
    ],
)
def test_underlines_what_is_wrong_in_itself(more: str, tmp_path: Path) -> None:
    text = f"{LEAST}{more}\n" if not more.startswith("model") else f"task: mrpc\n{more}\n"
    assert not loads(text, tmp_path)
    assert not accepted(text)


@pytest.mark.parametrize("text", ["t", "[t]", "[t, u]"])
def test_one_column_or_two(text: str) -> None:
    assert accepted(f"task: classification\ndata: {{text: {text}}}\n")


@pytest.mark.parametrize("text", ["[t, u, v]", "[]", "3"])
def test_no_other_number_of_columns(text: str) -> None:
    assert not accepted(f"task: classification\ndata: {{text: {text}}}\n")


@pytest.mark.parametrize("splits", ["{validation: 0.1}", "{train: a.csv, test_news: b.csv}"])
def test_splits_by_name(splits: str) -> None:
    assert accepted(f"task: mrpc\ndata: {{splits: {splits}}}\n")
    assert not accepted(f"task: mrpc\ndata: {{splits: {splits.replace('t', 'x', 1)}}}\n")


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def test_names_are_enumerations_and_every_field_is_described() -> None:
    made = schema()
    assert made["properties"]["task"]["enum"] == list(TASKS)
    metrics = made["properties"]["evaluation"]["properties"]["metrics"]["items"]["anyOf"][0]["enum"]
    assert metrics == list(METRICS)
    properties = [
        one for node in nodes(made) if isinstance(node.get("properties"), dict) for one in node["properties"].items()
    ]
    assert [name for name, field in properties if "description" not in field] == []
    assert not [node for node in nodes(made) if "$ref" in node]


def test_the_schema_has_every_field_and_its_default() -> None:
    made = schema()["properties"]["training"]["properties"]
    assert (made["num_epochs"]["default"], made["learning_rate"]["default"]) == (3.0, 5e-5)
    assert made["batch_size"]["minimum"] == 1
    assert list(schema()["properties"])[1:] == list(RunConfig.model_fields)


def test_the_reference_names_tasks_metrics_and_defaults() -> None:
    text = reference_text()
    for name in (*TASKS, *METRICS, "training.early_stopping.patience", "data.checks.unseen_labels"):
        assert f"`{name}`" in text
    assert "| `training.learning_rate` | a number above 0 | `5e-5` |" in text


@pytest.mark.parametrize("field", ["batch_size: ${B}", "precision: ${P:-auto}", "packing: ${P}", "warmup_steps: ${W}"])
def test_takes_variables_of_the_environment(field: str) -> None:
    text = f"{LEAST}training:\n  {field}\n"
    check({"task": "classification", "training": dict([field.split(": ")])})
    assert accepted(
        text.replace("${P:-auto}", "auto").replace("${P}", "true").replace("${B}", "1").replace("${W}", "1")
    )


def test_the_page_about_the_config_holds_the_reference() -> None:
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    written = page.partition(f"{START}\n\n")[2].partition(f"\n{END}\n")[0]
    assert written == reference_text(), "run: finetune schema --markdown, between the two comments of docs/config.md"
