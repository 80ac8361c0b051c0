"""The mistake that a rule reports, and what the rules share."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from finetune_cli.config.yaml_source import KeyPath
from finetune_cli.errors import did_you_mean
from finetune_cli.tasks import METRICS

Get = Callable[[str], Any]
SAME_RUN = ": it would be the same run again"  # of a seed that is listed twice


class Mistake(NamedTuple):
    """Where the mistake is, and what to say. at_key: the key is wrong, not its value."""

    path: KeyPath
    message: str
    at_key: bool = False


def mistake(key: str, message: str, *inside: str | int, at_key: bool = False) -> Mistake:
    """A mistake at a dotted key. inside: the item of a list, or the name in a section, that is meant."""
    return Mistake((*key.split("."), *inside), message, at_key)


def repeats(
    key: str, items: Sequence[Any], ending: str = "", *, shown: Callable[[Any], str] = repr
) -> Iterator[Mistake]:
    """A mistake for each item of a list that stands in it already."""
    for index, item in enumerate(items):
        if item in items[:index]:
            yield mistake(key, f"{shown(item)} is in the list twice{ending}", index)


class UnusableValue(Exception):
    """A rule needs a value that is reported as wrong already."""


def column_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def evaluates_once(get: Get) -> bool:
    """Whether a run is evaluated at its end and nowhere before."""
    every, max_steps = get("evaluation.every"), get("training.max_steps")
    if every == "epoch":
        return max_steps is None and get("training.num_epochs") <= 1
    return max_steps is not None and every >= max_steps


def with_choice(problem: str, name: str, allowed: list[str]) -> str:
    hint = "" if name in METRICS else did_you_mean(name, allowed, before=". ")
    return f"{problem}. Allowed: {', '.join(allowed)}{hint}"
