"""Reading a config: the task's preset, then the file, then `--set`; every mistake at once, with line and column.

Light on purpose (pydantic and PyYAML): `finetune validate` answers before torch is imported.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.messages import allowed, field_at, unknown_key, wrong_value
from finetune_cli.config.rules import RULES
from finetune_cli.config.rules.mistake import Mistake, Unusable
from finetune_cli.config.text import hide_secrets, read_text, shorten
from finetune_cli.config.yaml_source import Document, KeyPath, Place, Spot, is_plain_text, parse_value, parse_yaml
from finetune_cli.errors import ConfigError, Problem, did_you_mean
from finetune_cli.tasks import TASKS, TaskSpec

__all__ = ["RunConfig", "config_diff", "leaves", "load_config", "to_yaml"]

SECTIONS = ("model", "data", "training", "evaluation", "checkpointing")


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a run, with the task's preset filled in and `--set` values on top.

    overrides: `key=value` each, the value as YAML (`training.batch_size=16`, `data.text=[a, b]`); the last one wins.
    Raises ConfigError: one line for each mistake, in the order of the file, `problems` holding the same as data.
    """
    path = Path(path)
    document = parse_yaml(read_text(path), str(path))
    for argument in overrides:
        apply_override(document, argument)
    _fill_in_preset(document.data)
    config, problems = _validate(document, str(path))
    problems += document.problems
    if problems or config is None:
        ordered = _in_order(problems, [str(path), *map(_set_source, overrides)])
        count = "1 mistake" if len(ordered) == 1 else f"{len(ordered)} mistakes"
        raise ConfigError("\n".join([f"{path}: {count}", *map(str, ordered)]), ordered)
    return config


def apply_override(document: Document, argument: str) -> None:
    """Put one `--set key=value` into `document`; what is wrong with it joins the document's problems."""
    source = _set_source(argument)
    key, equals, text = argument.partition("=")
    path: KeyPath = tuple(key.strip().split("."))
    if not equals or not all(part and str(part).split() == [part] for part in path):
        message = "not of the form key=value. Allowed: a dotted key and a value, such as training.batch_size=16"
        document.problems.append(Problem(source, None, None, "", message))
        return
    holder: Any = document.data
    for depth, part in enumerate(path[:-1], start=1):
        if isinstance(holder.get(part), list):
            message = f"{'.'.join(map(str, path[:depth]))} is a list. Give the whole list, such as [a, b]"
            document.problems.append(Problem(source, None, None, key.strip(), message))
            return
        if not isinstance(holder.get(part), dict):
            holder[part] = {}
            document.spots[path[:depth]] = Spot(Place(source), Place(source), None)
        holder = holder[part]
    new = parse_value(text, source, path)
    document.problems += new.problems
    document.spots = {old: spot for old, spot in document.spots.items() if old[: len(path)] != path} | new.spots
    document.unusable = {old for old in document.unusable if old[: len(path)] != path} | new.unusable
    holder.pop(path[-1], None)
    holder.update(new.data)


def _set_source(argument: str) -> str:
    return f"--set {shorten(argument, 80)}"


def _fill_in_preset(data: dict[str, Any]) -> None:
    """What the task knows, where the file is silent or says null."""
    for section in SECTIONS:
        if data.get(section) is None:
            data[section] = {}
    task = data.get("task")
    if not isinstance(task, str) or task not in TASKS:
        task = "mrpc"  # any will do: the task is reported, and what it would have filled in should not be
    preset = TASKS[task]
    if isinstance(data["data"], dict):
        _fill_in_data(data["data"], preset)
    evaluation = data["evaluation"]
    if isinstance(evaluation, dict):
        metrics = _default(evaluation, "metrics", list(preset.metrics))
        best = preset.metric_for_best
        if isinstance(metrics, list) and metrics and best not in metrics:
            best = metrics[0]
        _default(evaluation, "metric_for_best", best)
    _default(data, "output_dir", f"runs/{task}")


def _fill_in_data(section: dict[str, Any], preset: TaskSpec) -> None:
    splits = section.get("splits")
    train = splits.get("train") if isinstance(splits, dict) else None
    path = _default(section, "path", train if isinstance(train, str) else preset.path)
    if path == preset.path:  # a Hub configuration means nothing to another path
        _default(section, "name", preset.config_name)
    _default(section, "text", list(preset.text) or None)
    _default(section, "label", preset.label)
    _default(section, "labels", list(preset.labels) if preset.labels else None)


def _default(section: dict[str, Any], key: str, value: Any) -> Any:
    """Set `key` where it is absent or null; the value it has afterwards."""
    if section.get(key) is None and value is not None:
        section[key] = value
    elif section.get(key, value) is None:
        section.pop(key, None)
    return section.get(key)


def _validate(document: Document, source: str) -> tuple[RunConfig | None, list[Problem]]:
    """The config where it is right; the problems of types, ranges and names, then those of the rules."""
    mistakes: list[Mistake] = []
    config = None
    try:
        config = RunConfig.model_validate(document.data)
    except ValidationError as error:
        mistakes += _schema_findings(error, document)
    task = document.data.get("task")
    if isinstance(task, str) and task and task not in TASKS:
        mistakes.append(Mistake(("task",), _unknown_task(task)))
    bad = document.unusable | {mistake.path for mistake in mistakes}

    def get(key: str) -> Any:
        path = tuple(key.split("."))
        if any(_within(path, other) or _within(other, path) for other in bad):
            raise Unusable
        return _value_or_default(document.data, path)

    for rule in RULES:
        with suppress(Unusable):
            mistakes.extend(rule(get))
    problems = [
        _problem_at(document, mistake, source)
        for mistake in mistakes
        if not any(_within(mistake.path, other) for other in document.unusable)
    ]
    return config, problems


def _within(path: KeyPath, outer: KeyPath) -> bool:
    return path[: len(outer)] == outer


def _value_or_default(data: dict[str, Any], path: KeyPath) -> Any:
    value: Any = data
    for part in path:
        if not isinstance(value, dict) or part not in value:
            info = field_at(path)
            default = info.get_default(call_default_factory=True) if info else None
            return default
        value = value[part]
    return value


def _unknown_task(task: str) -> str:
    return (
        f"{shorten(task)!r} is not a task. Allowed: {', '.join(TASKS)}{did_you_mean(task.lower(), TASKS, before='. ')}"
    )


def _schema_findings(error: ValidationError, document: Document) -> list[Mistake]:
    """One mistake for each key that pydantic complains about; the branches of a union are one complaint."""
    kinds: dict[KeyPath, set[str]] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        kinds.setdefault(_key_path(detail["loc"], document.data, detail["type"]), set()).add(detail["type"])
    outer = {path for path in kinds for other in kinds if other != path and _within(other, path)}
    return [
        Mistake(path, _schema_message(path, kinds[path], document), at_key="extra_forbidden" in kinds[path])
        for path in kinds
        if path not in outer
    ]


def _key_path(loc: tuple[int | str, ...], data: Any, kind: str) -> KeyPath:
    """pydantic's location without the names of union branches, which are no keys."""
    path: list[str | int] = []
    value = data
    for part in loc:
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            path.append(part)
            value = value[part]  # type: ignore[index]
    if kind == "missing":
        path.append(loc[-1])
    return tuple(path)


def _schema_message(path: KeyPath, kinds: set[str], document: Document) -> str:
    info = field_at(path)
    if "extra_forbidden" in kinds or info is None:
        return unknown_key(path[:-1], str(path[-1]))
    if path == ("task",) and "missing" in kinds:
        return f"is missing. Allowed: {', '.join(TASKS)}"
    if "missing" in kinds:
        return f"is missing. Allowed: {allowed(info)}"
    value: Any = document.data
    for part in path:
        value = value[part]
    spot = document.spots.get(path)
    return wrong_value(value, spot.text if spot else None, kinds, info)


def _problem_at(document: Document, mistake: Mistake, source: str) -> Problem:
    """The mistake with its position: of the value or the key, or else of the section that it would be in."""
    path = mistake.path
    key, message = hide_secrets(".".join(map(str, path))), hide_secrets(mistake.message)
    for length in range(len(path), 0, -1):
        spot = document.spots.get(path[:length])
        if spot is not None:
            place = spot.value if length == len(path) and not mistake.at_key else spot.key
            return Problem(place.source, place.line, place.column, key, message)
    return Problem(source, 1, 1, key, message)


def _in_order(problems: list[Problem], sources: list[str]) -> tuple[Problem, ...]:
    """The file's problems by line, then those of `--set` in the order of the arguments; none twice."""
    unique = dict.fromkeys(problems)
    return tuple(sorted(unique, key=lambda one: (sources.index(one.source), one.line or 0, one.column or 0)))


class _Dumper(yaml.SafeDumper):
    """Writes what `yaml_source` reads back: no anchors, and quotes around a text that would be read as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain_text(text) else "'")


_Dumper.add_representer(str, _represent_text)


def to_yaml(config: RunConfig) -> str:
    """The whole config, defaults and preset included; `load_config` reads it back as an equal object."""
    data = config.model_dump(mode="json")
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def config_diff(first: RunConfig, second: RunConfig) -> list[tuple[str, Any, Any]]:
    """The keys whose values differ, each with both values; None stands for a key that one of them lacks."""
    left, right = dict(leaves(first)), dict(leaves(second))
    keys = dict.fromkeys([*left, *right])
    return [(key, left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)]


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a config with its dotted key; a list is one value."""
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict) and (value or not key):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    else:
        yield key, value
