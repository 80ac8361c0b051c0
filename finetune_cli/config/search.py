"""What a sweep tries for one setting, as it is written in `sweep.parameters`: a list of values, or a range."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError, create_model

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.foreign_names import COMMON_NAMES
from finetune_cli.config.messages import allowed, field_at
from finetune_cli.config.text import by_word, shorten
from finetune_cli.config.trainer_args import OURS
from finetune_cli.config.types import Section, fields_below
from finetune_cli.errors import did_you_mean

RANGE_KEYS = ("low", "high", "log", "step")
DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
# Settings, and whole sections, that no trial may change; the reason completes "cannot be searched: ".
FIXED = by_word(
    {
        "trials are compared on the same rows": (
            "data.path data.name data.splits data.label data.labels data.id data.limit data.folds data.split_seed "
            "data.share data.checks"
        ),
        "trials answer one question": "task",
        "trials are compared by one score": (
            "evaluation.metrics evaluation.metric_for_best evaluation.bootstrap evaluation.slices"
        ),
        "gates change no score": "evaluation.gates",
        "it changes no score": "tracking hub checkpointing output_dir",
        "the best seed is the luckiest one. To train the best settings again, set sweep.seeds": "seed training.seeds",
        "a sweep trains each setting on all rows": "training.learning_curve",
        "it is the search itself": "sweep",
    }
)


def setting_problem(key: str) -> str | None:
    """Why a key of sweep.parameters is none that can be searched; None when it can."""
    for fixed, reason in FIXED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            return f"cannot be searched: {reason}. Take it out"
    names = {".".join(path) for path, _ in fields_below(RunConfig)}
    if key in names or key.startswith(("training.trainer_args.", "training.class_weights.")):
        return None
    inside = sorted(name for name in names if name.endswith(f".{key}") and not name.startswith("sweep."))
    if inside:
        return f"is not a setting. Write {' or '.join(inside)}"
    ours = COMMON_NAMES.get(key) or OURS.get(key)
    if ours and " " not in ours:
        return f"is called {ours} here"
    return f"is not a setting of the config.{did_you_mean(key, names)}"


def choice_problems(key: str, choice: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(place inside the choice, what is wrong there) for what a setting cannot be tried with."""
    if isinstance(choice, list | tuple):
        yield from _list_problems(key, choice)
    elif isinstance(choice, dict):
        yield from _range_problems(key, choice)
    else:
        yield (), f"found {shorten(str(choice))}. Allowed: a list of values, or {{low: 1, high: 9}} with log or step"


def _list_problems(key: str, values: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if len(values) < 2:
        found = "an empty list" if not values else "a list of one"
        yield (), f"found {found}, which leaves nothing to search. Give two values or more, or take it out"
    for index, value in enumerate(values):
        if any(value == other and type(value) is type(other) for other in values[:index]):
            yield (index,), f"{shorten(str(value))} is in the list twice"
        elif problem := _value_problem(key, value):
            yield (index,), problem


def _range_problems(key: str, choice: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if unknown := [name for name in choice if name not in RANGE_KEYS]:
        for name in unknown:
            yield (name,), f"is not a key of a range. Allowed: {', '.join(RANGE_KEYS)}{_hint(name)}"
        return
    sound = True
    for name in ("low", "high"):
        value = choice.get(name)
        if name not in choice:
            problem: str | None = f"has no {name}. A range is written {{low: 1e-5, high: 1e-4, log: true}}"
        elif not _is_number(value):
            problem = f"found {shorten(str(value))}. Allowed: a number"
        else:
            problem = _value_problem(key, value)
        if problem:
            sound = False
            yield (() if name not in choice else (name,)), problem
    log, step = choice.get("log", False), choice.get("step")
    if not isinstance(log, bool):
        yield ("log",), f"found {shorten(str(log))}. Allowed: true or false"
    if step is not None and (not _is_number(step) or step <= 0):
        yield ("step",), f"found {shorten(str(step))}. Allowed: a number above 0"
    if not sound:
        return
    low, high = choice["low"], choice["high"]
    if low >= high:
        yield ("low",), f"{low} is not below high ({high})"
    elif log is True and low <= 0:
        yield ("low",), f"{low} has no logarithm. Start above 0, or take log out"
    elif _is_number(step) and 0 < high - low < step:
        yield ("step",), f"{step} is more than the range from {low} to {high}"
    elif log is True and step is not None:
        yield ("step",), "does not go with log: true. Keep one of the two"
    elif step is not None and _takes_whole_numbers(key) and not isinstance(step, int):
        yield ("step",), f"{step} is not a whole number, and {key} takes whole numbers"


def is_whole(key: str, choice: dict[str, Any]) -> bool:
    """Whether a range is one of whole numbers: written with such, for a setting that takes no others between them."""
    ends = (choice["low"], choice["high"])
    return all(isinstance(end, int) for end in ends) and _takes_whole_numbers(key)


def seconds(text: str) -> float | None:
    """`1h30m` in seconds; None for what is no time above 0."""
    match = DURATION.fullmatch(text.replace(" ", ""))
    parts = [float(part or 0) for part in match.groups()] if match else [0.0]
    total = sum(part * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=False))
    return total or None


def _takes_whole_numbers(key: str) -> bool:
    return _value_problem(key, 1.5) is not None and _value_problem(key, 0.5) is not None


def _value_problem(key: str, value: Any) -> str | None:
    """Why a setting does not take this value, by its type alone."""
    path = tuple(key.split("."))
    info = field_at(path)
    if info is None or path[:-1] in (("training", "trainer_args"), ("training", "class_weights")):
        return None  # judged with the whole config of the trial
    section: type[Section] = create_model("One", __base__=Section, value=(info.annotation, info))  # type: ignore[arg-type]
    try:
        section.model_validate({"value": value})
    except ValidationError:
        return f"{shorten(str(value))} does not fit {key}. Allowed: {allowed(info)}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _hint(name: str) -> str:
    names = {"min": "low", "max": "high", "from": "low", "to": "high", "q": "step"}
    return f". Write {names[name]}" if name in names else did_you_mean(name, RANGE_KEYS, before=". ")
