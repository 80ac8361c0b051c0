"""The config's fields as a JSON Schema, for editors; from the same models that check a config."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BeforeValidator

from finetune_cli import __version__
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import SECTIONS
from finetune_cli.config.messages import allowed
from finetune_cli.config.trainer_args import PASSED
from finetune_cli.config.types import Section, as_one_or_more, section_of
from finetune_cli.tasks import EVALUATE_PREFIX, METRICS, SPLIT_NAME, TASKS

DIALECT = "http://json-schema.org/draft-07/schema#"  # what the YAML language server reads best

# What load_config fills in where the file is silent or says null; no file has to have it.
FILLED_IN = (*SECTIONS, "output_dir")
FILLED_IN_SECTIONS = {
    "data": ("path", "name", "text", "label", "labels"),
    "evaluation": ("metrics", "metric_for_best"),
    "checkpointing": ("every",),
}
BASE = {
    "description": "Another config that this one builds on, relative to this file; what is said here counts.",
    "type": "string",
    "minLength": 1,
}
VARIABLE = {"type": "string", "pattern": r"\$\{"}


def schema_text() -> str:
    """The schema as a file's text."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """What a config file may say: every key, what it takes, its default and its description.

    A file needs `task`, or a `base` that has one; all else has a default or is asked for by `finetune validate`, which
    also knows what one key means for another.
    """
    raw = RunConfig.model_json_schema()
    root = _inlined(raw, raw.pop("$defs", {}))
    _take_lists_of_one(root, RunConfig)
    properties = root["properties"]
    _names(properties)
    _may_be_left_out(root)
    _take_variables(root)
    return {
        "$schema": DIALECT,
        "title": "finetune config",
        "$comment": f"Written by finetune {__version__}: finetune schema",
        "description": RunConfig.__doc__,
        "type": "object",
        "additionalProperties": False,
        "properties": {"base": BASE, **properties},
        "anyOf": [{"required": ["task"]}, {"required": ["base"]}],
    }


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Without references (some readers drop what stands beside one) and titles; lists have items, not lengths."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    if node.get("type") == "array":
        lengths = {"minLength": "minItems", "maxLength": "maxItems"}
        node = {lengths.get(key, key): value for key, value in node.items()}
    return {
        key: value if key in ("default", "enum") else _inlined(value, definitions)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str))
    }


def _sections(node: dict[str, Any], section: type[Section]) -> Iterator[tuple[dict[str, Any], type[Section]]]:
    """Each section's schema with its class; a section that may be null is one of a choice."""
    yield node, section
    for name, info in section.model_fields.items():
        if inner := section_of(info):
            choices = [node["properties"][name], *node["properties"][name].get("anyOf", ())]
            yield from _sections(next(choice for choice in choices if "properties" in choice), inner)


def _take_lists_of_one(root: dict[str, Any], section: type[Section]) -> None:
    """A field that takes a single text for a list of one."""
    for node, fields in _sections(root, section):
        for name, info in fields.model_fields.items():
            if any(isinstance(note, BeforeValidator) and note.func is as_one_or_more for note in info.metadata):
                listed = node["properties"][name]
                about = {key: listed.pop(key) for key in ("description", "default") if key in listed}
                node["properties"][name] = {**about, "anyOf": [listed["items"], listed]}


def _names(properties: dict[str, Any]) -> None:
    """The names that the package knows: tasks, metrics, splits, arguments of the Trainer."""
    properties["task"] |= {"enum": list(TASKS)}
    metrics = {"enum": list(METRICS)}
    others = {"type": "string", "pattern": f"^{EVALUATE_PREFIX}.+"}
    evaluation = properties["evaluation"]["properties"]
    evaluation["metrics"]["items"] = {"anyOf": [metrics, others]}
    about = {"description": evaluation["metric_for_best"]["description"]}
    evaluation["metric_for_best"] = {**about, "enum": [*METRICS, None]}
    data = properties["data"]["properties"]
    splits = next(choice for choice in data["splits"]["anyOf"] if choice.get("type") == "object")
    splits["propertyNames"] = {"pattern": f"^({SPLIT_NAME.pattern})$"}
    data["folds"]["anyOf"].insert(0, {"type": "integer", "minimum": 2})  # short for n
    passed = properties["training"]["properties"]["trainer_args"]
    passed["additionalProperties"] = False
    passed["properties"] = {
        name: {**_or_null(value.schema), "description": f"TrainingArguments.{name}: {value.text}."}
        for name, value in PASSED.items()
    }


def _may_be_left_out(root: dict[str, Any]) -> None:
    """Keys that have to be there in a finished config, but not in a file: the task fills them in."""
    root.pop("required", None)
    for name in FILLED_IN:
        root["properties"][name] = _or_null(root["properties"][name])
    for section, keys in FILLED_IN_SECTIONS.items():
        node = root["properties"][section]
        node.pop("required", None)
        for key in keys:
            node["properties"][key] = _or_null(node["properties"][key])


def _take_variables(root: dict[str, Any]) -> None:
    """Numbers, flags and choices may come from the environment as well, as any text may."""
    for node, section in _sections(root, RunConfig):
        for name, info in section.model_fields.items():
            field = node["properties"][name]
            variable = {
                **VARIABLE,
                "patternErrorMessage": f"Expected {allowed(info)}; or ${{NAME}}, from the environment.",
            }
            kinds = field["type"] if isinstance(field.get("type"), list) else [field.get("type")]
            choices = field.get("anyOf", ())
            if "enum" in field and name != "task":
                about = {key: field.pop(key) for key in ("description", "default") if key in field}
                node["properties"][name] = {**about, "anyOf": [field, variable]}
            elif set(kinds) & {"integer", "number", "boolean"}:
                node["properties"][name] = {**field, **variable, "type": [*kinds, "string"]}
            elif choices and not any(choice.get("type") in ("array", "object") for choice in choices):
                field["anyOf"] = [*choices, variable]


def _or_null(node: dict[str, Any]) -> dict[str, Any]:
    """The same, or nothing after the colon."""
    if "anyOf" in node:
        choices = node["anyOf"]
        return node if {"type": "null"} in choices else {**node, "anyOf": [*choices, {"type": "null"}]}
    if "enum" in node:
        names = [name for name in node["enum"] if name is not None]
        return {**{key: value for key, value in node.items() if key != "type"}, "enum": [*names, None]}
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    return {**node, "type": [*kinds, "null"]}
