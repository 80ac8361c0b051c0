"""Every setting is documented with its default, every setting that is named exists, every example is valid."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.config.yaml_source import parse_value, parse_yaml
from finetune_cli.tasks import METRICS, TASKS
from tests.unit.documents import DOCUMENTS, blocks, completed, read, section, table_rows

# All that the config example has to say besides its defaults, and what a part of a config lacks.
REQUIRED = "task: classification\nmodel: {name_or_path: distilbert-base-uncased}\ndata: {path: data, text: text}\n"
SETTING = re.compile(r"(?<![\w/.-])(?:model|data|training|evaluation|checkpointing|hub)(?:\.[a-z_]+)+(?![\w(*])")
FILE_ENDINGS = (".csv", ".html", ".json", ".jsonl", ".md", ".onnx", ".parquet", ".py", ".safetensors", ".txt", ".yaml")
OPEN_ENDED = (
    "data.splits.",
    "training.class_weights.",
    "training.trainer_args.",
    "sweep.parameters.",
)  # their keys are the user's


def fields(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, field) of all that can be set, in the order of the schema; of a section that may be null, too."""
    for name, field in model.model_fields.items():
        inner = section_of(field)
        if inner is None or inner is not field.annotation:
            yield f"{prefix}{name}", field
        if inner is not None:
            yield from fields(inner, f"{prefix}{name}.")


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    choices = (field.annotation, *get_args(field.annotation))
    return next((one for one in choices if isinstance(one, type) and issubclass(one, BaseModel)), None)


def whole_example() -> str:
    (example,) = blocks(section(read("docs/config.md"), "## Every setting with its default"), "yaml")
    return example.text


def keys(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, item in value.items():
        if isinstance(item, dict) and item:
            yield from keys(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_config_example_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    shown, least = tmp_path / "shown.yaml", tmp_path / "least.yaml"
    shown.write_text(whole_example(), encoding="utf-8")
    least.write_text(REQUIRED, encoding="utf-8")
    assert load_config(shown) == load_config(least)


def test_the_config_example_has_every_field_in_the_order_of_the_schema() -> None:
    null = tuple(f"{key}." for key, field in fields() if section_of(field))  # shown as null, without their keys
    expected = [key for key, _ in fields() if not key.startswith(null)]
    assert list(keys(parse_yaml(whole_example(), "example").data)) == expected


def test_the_reference_has_every_field_with_its_default() -> None:
    rows = [row for row in table_rows(section(read("docs/config.md"), "## Reference")) if row[0].startswith("`")]
    shown = {key.strip("`"): default for key, _, default, _ in rows}
    known = dict(fields())
    assert sorted(key.strip("`") for key, *_ in rows) == sorted(known)  # none missing, none twice
    for key, field in known.items():
        if re.fullmatch(r"`[^`]*`", shown[key]):
            value = parse_value(shown[key].strip("`"), key, ("value",)).data["value"]
            default = field.get_default(call_default_factory=True)
            assert (key, value) == (key, list(default) if isinstance(default, tuple) else default)
        else:
            assert field.is_required() or key == "model.name_or_path", key


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_that_are_named_exist(document: str) -> None:
    known = {key for key, _ in fields()}
    known |= {key.rsplit(".", level)[0] for key in known for level in (1, 2)}
    text = re.sub(
        r"^```console\n.*?^```$", "", read(document), flags=re.MULTILINE | re.DOTALL
    )  # mistakes are shown there
    named = {name for name in SETTING.findall(text) if not name.endswith(FILE_ENDINGS)}
    assert {name for name in named - known if not name.startswith(OPEN_ENDED)} == set()


CONFIG_BLOCKS = [
    (document, block.text)
    for document in DOCUMENTS
    for block in blocks(read(document), "yaml")
    if not block.text.startswith("jobs:")
]


@pytest.mark.parametrize(("document", "text"), CONFIG_BLOCKS)
def test_configs_and_parts_of_them_are_valid(document: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    (tmp_path / "common.yaml").write_text(REQUIRED, encoding="utf-8")  # what examples build on
    is_whole = text.startswith(("task:", "base:"))
    path.write_text(text if is_whole else completed(text, REQUIRED), encoding="utf-8")
    load_config(path)


def test_the_table_of_tasks_and_that_of_metrics_are_complete() -> None:
    tasks = {name: spec for name, spec in TASKS.items() if spec.path}
    rows = {row[0].strip("`"): row for row in table_rows(section(read("docs/config.md"), "## Tasks"))[2:]}
    assert list(rows) == list(tasks)
    for name, spec in tasks.items():
        metrics = [f"**{metric}**" if metric == spec.metric_for_best else metric for metric in spec.metrics]
        assert rows[name][1:] == [", ".join(spec.text), ", ".join(spec.labels or ["a number"]), ", ".join(metrics)]
    for kind, text in table_rows(section(read("docs/scores.md"), "## Metrics"))[2:]:
        named = set(re.findall(r"[a-z][a-z0-9_]+", re.sub(r"\(.*?\)", "", text))) - {"and"}
        assert named == {name for name, spec in METRICS.items() if kind in spec.kinds} - {"loss"}
