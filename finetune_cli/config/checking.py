"""A document against the fields and the rules: a config, or every mistake with its line and column."""

from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from finetune_cli.config.environment import SHORTEST_SECRET
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.messages import allowed, field_at, unknown_key, wrong_value
from finetune_cli.config.rules import RULES
from finetune_cli.config.rules.mistake import Mistake, UnusableValue
from finetune_cli.config.text import hide_secrets, shorten
from finetune_cli.config.yaml_source import Document, KeyPath, Place
from finetune_cli.errors import Problem, did_you_mean
from finetune_cli.tasks import TASKS


def validate(document: Document, source: str) -> tuple[RunConfig | None, list[Problem]]:
    """The config, or None when a type, range or name is wrong; and all problems, those of the rules last."""
    mistakes: list[Mistake] = []
    config = None
    try:
        config = _validated(document)
    except ValidationError as error:
        mistakes += _schema_mistakes(error, document)
    task = document.data.get("task")
    if isinstance(task, str) and task and task not in TASKS:
        near = did_you_mean(task.lower(), TASKS, before=". ")
        mistakes.append(Mistake(("task",), f"{shorten(task)!r} is not a task. Allowed: {', '.join(TASKS)}{near}"))
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
        saved = {path: (filled, _at(document.data, path)) for path, filled in document.filled.items() if filled.saved}
        config.references.update({path: (value, str(filled.saved)) for path, (filled, value) in saved.items()})
    return config, problems


def _validated(document: Document) -> RunConfig:
    """The config; values from the environment are tried as text and as number or flag, whichever the field takes."""
    try:
        return RunConfig.model_validate(document.data)
    except ValidationError as error:
        wrong = {_key_path(detail["loc"], document.data, detail["type"]) for detail in error.errors()}
        alternatives = {path: filled.alternative for path, filled in document.filled.items() if path in wrong}
        if not alternatives:
            raise
        before = {path: _at(document.data, path) for path in alternatives}
        for path, alternative in alternatives.items():
            _at(document.data, path[:-1])[path[-1]] = alternative
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
            return info.get_default(call_default_factory=True) if info else None
        value = value[part]
    return value


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
    spot, filled = document.spots.get(path), document.filled.get(path)
    written = filled.text if filled else spot.text if spot else None
    return wrong_value(_at(document.data, path), written, kinds, info)


def _problem_at(document: Document, mistake: Mistake, source: str) -> Problem:
    """The mistake with its position: of the value or of the key; when it has none, of its section."""
    path = mistake.path
    key, message = hide_secrets(".".join(map(str, path))), hide_secrets(_message(document, mistake))
    for length in range(len(path), 0, -1):
        spot = document.spots.get(path[:length])
        if spot is not None:
            place = spot.value if length == len(path) and not mistake.at_key else spot.key
            return place.problem(key, message)
    return Place(source, 1, 1).problem(key, message)


def _message(document: Document, mistake: Mistake) -> str:
    """The message, with what a variable stands for, and with references in place of what secret ones hold."""
    message, variable = mistake.message, document.filled.get(mistake.path)
    if variable and not variable.saved:
        message = f"{variable.reference} stands for {shorten(variable.text)!r}: {message}"
    for path, filled in document.filled.items():
        if filled.saved and filled.text and (path == mistake.path or len(filled.text) >= SHORTEST_SECRET):
            message = message.replace(filled.text, filled.reference)
    return message
