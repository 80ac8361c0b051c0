"""The reference of all fields, in Markdown; from the same models that check a config."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from finetune_cli.config.fields import RunConfig, Section
from finetune_cli.config.messages import allowed, section_classes
from finetune_cli.config.trainer_args import PASSED
from finetune_cli.tasks import METRICS, TASKS, TaskSpec

# The defaults that the task decides, in words; a section that is always there has none of its own.
BY_TASK = {
    ("task",): "has to be said",
    ("data", "path"): "the task's; else has to be said",
    ("data", "text"): "the task's; else has to be said",
    ("data", "label"): "`label`",
    ("evaluation", "metrics"): "the task's",
    ("evaluation", "metric_for_best"): "the task's",
    ("output_dir",): "`runs/TASK`",
}
START = "<!-- Written by `finetune schema --markdown`; a test compares. -->"
END = "<!-- End of what `finetune schema --markdown` writes. -->"


def reference_text() -> str:
    """Tables of all fields, section by section, then of the tasks and the metrics."""
    parts = [START, *_sections(RunConfig, (), "The top of the file"), _arguments(), _tasks(), _metrics(), END]
    return "\n\n".join(parts) + "\n"


def _sections(section: type[Section], path: tuple[str, ...], about: str) -> Iterator[str]:
    """This section's table, then those of the sections inside it."""
    inner: list[tuple[tuple[str, ...], type[Section]]] = []
    rows = []
    for name, info in section.model_fields.items():
        found = next(section_classes(info.annotation), None)
        if found is not None:
            inner.append(((*path, name), found))
        rows.append(_row((*path, name), info, is_section=found is not None))
    if not path:
        rows.insert(0, ["`base`", "another config file", "none", "What this file builds on: see above."])
    title = f"### `{'.'.join(path)}`" if path else f"### {about}"
    yield f"{title}\n\n{section.__doc__ if path else ''}".strip()
    yield _table(["key", "takes", "default", "what it is"], rows)
    for where, found in inner:
        yield from _sections(found, where, "")


def _row(path: tuple[str, ...], info: FieldInfo, *, is_section: bool) -> list[str]:
    takes = "a section" if is_section else allowed(info)
    if is_section and info.default is None:
        takes = "a section, or null"
    if path == ("task",):
        takes = "a name: see Tasks"
    return [f"`{path[-1]}`", takes, _default(path, info, is_section), info.description or ""]


def _default(path: tuple[str, ...], info: FieldInfo, is_section: bool) -> str:
    if path in BY_TASK:
        return BY_TASK[path]
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "see there" if is_section else "has to be said"
    if isinstance(value, Section):
        return "see there"
    return f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-")
    return value if isinstance(value, str) else json.dumps(value)


def _arguments() -> str:
    about = "Fields of TrainingArguments that are handed on, to the trainer loop alone."
    rows = [[f"`{name}`", value.text] for name, value in PASSED.items()]
    return f"### `training.trainer_args`\n\n{about}\n\n{_table(['key', 'takes'], rows)}"


def _tasks() -> str:
    def row(task: TaskSpec) -> list[str]:
        data = f"{task.path}, {task.config_name}" if task.path else "yours"
        classes = ", ".join(task.labels) if task.labels else "as the data say" if task.kind != "regression" else "none"
        text = ", ".join(task.text) or "`data.text`"
        metrics = ", ".join(f"**{m}**" if m == task.metric_for_best else m for m in task.metrics)
        return [f"`{task.name}`", task.kind, data, text, classes, metrics]

    head = ["task", "kind", "data", "text", "classes", "metrics (bold: chooses the best)"]
    return "### Tasks\n\n" + _table(head, [row(task) for task in TASKS.values()])


def _metrics() -> str:
    rows = []
    for metric in METRICS.values():
        kinds = "all" if len(metric.kinds) == 3 else ", ".join(sorted(metric.kinds))
        if metric.binary_only:
            kinds += " with two classes"
        rows.append([f"`{metric.name}`", kinds, "higher" if metric.greater_is_better else "lower"])
    others = "`evaluate:NAME` or `evaluate:./FOLDER` adds a metric of the `evaluate` library."
    return f"### Metrics\n\n{_table(['metric', 'for', 'better is'], rows)}\n\n{others}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = [[cell.replace("|", r"\|").replace("<", "&lt;") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
