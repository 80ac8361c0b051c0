"""The reference of all fields, in Markdown; from the same models that check a config. docs/config.md holds it."""

import json
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.messages import allowed
from finetune_cli.config.types import Allowed, fields_below, section_of, short_number
from finetune_cli.tasks import METRICS, TASKS

START = "<!-- from here on written by `finetune schema --markdown` -->"
END = "<!-- to here -->"
TASK_DECIDES = "the task's own"
# Where a file has to say something, or something else fills it in.
DEFAULTS = {
    "task": "required",
    "model.name_or_path": "required, unless `model.from_scratch` is there",
    "data.path": "required; a GLUE task knows it",
    "data.text": "required; a GLUE task knows it",
    "evaluation.metrics": TASK_DECIDES,
    "evaluation.metric_for_best": TASK_DECIDES,
    "output_dir": "`runs/` and the task's name",
}


def reference_text() -> str:
    """A table of fields for the top level and for each section, with dotted keys."""
    tops = RunConfig.model_fields.items()
    parts = ["### The top level", _table([_row(name, info) for name, info in tops if section_of(info) is None])]
    for name, info in tops:
        if section := section_of(info):
            fields = [(name, info), *((".".join(path), inner) for path, inner in fields_below(section, (name,)))]
            rows = [_row(key, inner) for key, inner in fields if not _is_always_there(inner)]
            parts += [f"### `{name}`", str(section.__doc__), _table(rows)]
    return "\n\n".join(parts) + "\n"


def _is_always_there(info: FieldInfo) -> bool:
    """Whether it is a section that cannot be null, which needs no row of its own."""
    return section_of(info) is info.annotation


def _row(key: str, info: FieldInfo) -> list[str]:
    return [f"`{key}`", _takes(key, info), _default(key, info), str(info.description)]


def _takes(key: str, info: FieldInfo) -> str:
    lists = {"task": list(TASKS), "evaluation.metrics": list(METRICS), "evaluation.metric_for_best": list(METRICS)}
    if names := lists.get(key):
        listed = ", ".join(f"`{name}`" for name in names)
        if key.endswith("metrics"):
            return f"a list of {listed}, `evaluate:NAME`"
        return f"{listed}, or null" if type(None) in get_args(info.annotation) else listed
    if section_of(info):
        has_words = any(isinstance(note, Allowed) for note in info.metadata)
        return allowed(info) if has_words else "a section, or null"
    choice: Any = info.annotation
    if get_origin(choice) is Literal:
        return ", ".join(f"`{_shown(name)}`" for name in get_args(choice))
    return allowed(info)


def _default(key: str, info: FieldInfo) -> str:
    if key in DEFAULTS:
        return DEFAULTS[key]
    value = info.get_default(call_default_factory=True)
    return "required in this section" if value is PydanticUndefined else f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return short_number(value)
    return value if isinstance(value, str) else json.dumps(value)


def _table(rows: list[list[str]]) -> str:
    lines = [["key", "allowed", "default", "meaning"], ["---"] * 4, *rows]
    escaped = [[cell.replace("|", r"\|").replace("<", "&lt;") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
