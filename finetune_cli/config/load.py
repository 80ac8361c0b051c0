"""Reads a config: the task's preset, its base, the file, then `--set`; all mistakes at once, with line and column.

It imports only pydantic and PyYAML, so that `finetune validate` answers before torch is imported.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune_cli.config.bases import BASE, read_document
from finetune_cli.config.dump import config_diff, leaves, to_yaml
from finetune_cli.config.environment import SHORTEST_SECRET
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.messages import allowed, field_at, unknown_key, wrong_value
from finetune_cli.config.rules import RULES
from finetune_cli.config.rules.mistake import Mistake, UnusableValue
from finetune_cli.config.shipped import config_file
from finetune_cli.config.text import hide_secrets, read_text, shorten
from finetune_cli.config.yaml_source import Document, KeyPath, Place, Spot, parse_value
from finetune_cli.errors import ConfigError, Problem, counted, did_you_mean
from finetune_cli.tasks import TASKS, TaskSpec

__all__ = ["RunConfig", "config_diff", "leaves", "load_config", "to_yaml"]

SECTIONS = ("model", "data", "training", "evaluation", "checkpointing")


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a run, with the task's preset filled in and `--set` values on top.

    path: a YAML file, or builtin:NAME. overrides: `key=value` each, the value as YAML (`training.batch_size=16`,
    `data.text=[a, b]`); the last one wins.
    Raises ConfigError: one line for each mistake, in the order of the file, `problems` holding the same as data.
    """
    return check_text(read_text(config_file(path)), str(path), overrides)


def check_text(
    text: str, source: str, overrides: Sequence[str] = (), *, environ: Mapping[str, str] | None = None
) -> RunConfig:
    """The same for a config's text. source: its name, for messages and for `base`. environ: None: the process's own."""
    environ = os.environ if environ is None else environ
    document = read_document(text, source, environ)
    for argument in overrides:
        apply_override(document, argument, environ)
    _fill_in_preset(document.data)
    config, problems = _validate(document, source)
    problems += document.problems
    if problems or config is None:
        ordered = _in_order(problems, [*document.sources, *map(_set_source, overrides)])
        count = counted(len(ordered), "mistake")
        raise ConfigError("\n".join([f"{source}: {count}", *map(str, ordered)]), ordered)
    return config


def apply_override(document: Document, argument: str, environ: Mapping[str, str]) -> None:
    """Put one `--set key=value` into `document`; its mistakes are added to `document.problems`."""
    source = _set_source(argument)
    key, equals, text = argument.partition("=")
    path: KeyPath = tuple(key.strip().split("."))
    if not equals or not all(part and str(part).split() == [part] for part in path):
        message = "not of the form key=value. Allowed: a dotted key and a value, such as training.batch_size=16"
        document.problems.append(Problem(source, None, None, "", message))
        return
    if path[0] == BASE:
        message = "is read in a file alone. Write it there, or start from that file"
        document.problems.append(Problem(source, None, None, key.strip(), message))
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
    new = parse_value(text, source, path, environ)
    document.problems += new.problems
    document.spots = {old: spot for old, spot in document.spots.items() if old[: len(path)] != path} | new.spots
    document.unusable = {old for old in document.unusable if old[: len(path)] != path} | new.unusable
    document.filled = {old: found for old, found in document.filled.items() if old[: len(path)] != path} | new.filled
    holder.pop(path[-1], None)
    holder.update(new.data)


def _set_source(argument: str) -> str:
    return f"--set {shorten(argument, 80)}"


def _fill_in_preset(data: dict[str, Any]) -> None:
    """Fill in the values of the task's preset where the file has none, or null."""
    for section in SECTIONS:
        if data.get(section) is None:
            data[section] = {}
    task = data.get("task")
    if not isinstance(task, str) or task not in TASKS:
        task = "mrpc"  # the task is reported; any preset avoids further mistakes that only follow from it
    preset = TASKS[task]
    if isinstance(data["data"], dict):
        _fill_in_data(data["data"], preset)
    evaluation = data["evaluation"]
    if isinstance(evaluation, dict):
        metrics = _default(evaluation, "metrics", list(preset.metrics))
        best = preset.metric_for_best
        if isinstance(metrics, list) and metrics and best not in metrics:
            best = metrics[0]
        evaluation.setdefault("metric_for_best", best)  # null is a choice of its own: the last model
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
    """Set `key` when it is absent or null. Returns the value that it has afterwards."""
    if section.get(key) is None and value is not None:
        section[key] = value
    elif section.get(key, value) is None:
        section.pop(key, None)
    return section.get(key)


def _validate(document: Document, source: str) -> tuple[RunConfig | None, list[Problem]]:
    """The config, or None when a type, range or name is wrong; and all problems, those of the rules last."""
    mistakes: list[Mistake] = []
    config = None
    try:
        config = _validated(document)
    except ValidationError as error:
        mistakes += _schema_mistakes(error, document)
    task = document.data.get("task")
    if isinstance(task, str) and task and task not in TASKS:
        mistakes.append(Mistake(("task",), _unknown_task(task)))
    bad = document.unusable | {mistake.path for mistake in mistakes}

    def get(key: str) -> Any:
        path = tuple(key.split("."))
        if any(_within(path, other) or _within(other, path) for other in bad):
            raise UnusableValue
        return _value_or_default(document.data, path)

    for rule in RULES:
        with suppress(UnusableValue):
            mistakes.extend(rule(get))
    problems = [
        _problem_at(document, mistake, source)
        for mistake in mistakes
        if not any(_within(mistake.path, other) for other in document.unusable)
        and (document.is_whole or mistake.path in document.spots)
    ]
    if config is not None:
        saved = {path: (found, _at(document.data, path)) for path, found in document.filled.items() if found.saved}
        config.keep_references({path: (value, str(found.saved)) for path, (found, value) in saved.items()})
    return config, problems


def _validated(document: Document) -> RunConfig:
    """The config; values from the environment are tried as text and as number or flag, whichever the field takes."""
    try:
        return RunConfig.model_validate(document.data)
    except ValidationError as error:
        wrong = {_key_path(detail["loc"], document.data, detail["type"]) for detail in error.errors()}
        others = {path: found.other for path, found in document.filled.items() if path in wrong}
        if not others:
            raise
        before = {path: _at(document.data, path) for path in others}
        for path, other in others.items():
            _at(document.data, path[:-1])[path[-1]] = other
        try:
            return RunConfig.model_validate(document.data)
        except ValidationError:
            for path, value in before.items():
                _at(document.data, path[:-1])[path[-1]] = value
            raise


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = data[part]
    return data


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


def _schema_mistakes(error: ValidationError, document: Document) -> list[Mistake]:
    """One mistake for each key that pydantic refuses; it has an error for each branch of a union."""
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
    """pydantic's location as keys: it has the names of a union's branches in it, too."""
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
    spot, found = document.spots.get(path), document.filled.get(path)
    written = found.text if found else spot.text if spot else None
    return wrong_value(_at(document.data, path), written, kinds, info)


def _problem_at(document: Document, mistake: Mistake, source: str) -> Problem:
    """The mistake with its position: of the value or of the key; when it has none, of its section."""
    path = mistake.path
    key, message = hide_secrets(".".join(map(str, path))), hide_secrets(_told(document, mistake))
    for length in range(len(path), 0, -1):
        spot = document.spots.get(path[:length])
        if spot is not None:
            place = spot.value if length == len(path) and not mistake.at_key else spot.key
            return Problem(place.source, place.line, place.column, key, message)
    return Problem(source, 1, 1, key, message)


def _told(document: Document, mistake: Mistake) -> str:
    """The message, with what a variable stands for, and with references in place of what secret ones hold."""
    message, own = mistake.message, document.filled.get(mistake.path)
    if own and not own.saved:
        message = f"{own.reference} stands for {shorten(own.text)!r}: {message}"
    for path, found in document.filled.items():
        if found.saved and found.text and (path == mistake.path or len(found.text) >= SHORTEST_SECRET):
            message = message.replace(found.text, found.reference)
    return message


def _in_order(problems: list[Problem], sources: list[str]) -> tuple[Problem, ...]:
    """The problems of the file by line, then those of `--set` in the order of the arguments, each once."""
    unique = dict.fromkeys(problems)
    return tuple(
        sorted(unique, key=lambda problem: (sources.index(problem.source), problem.line or 0, problem.column or 0))
    )
