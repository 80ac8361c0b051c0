"""The mistake that a rule reports, and what the rules share."""

from collections.abc import Callable
from typing import Any, NamedTuple

from finetune_cli.config.yaml_source import KeyPath
from finetune_cli.errors import did_you_mean
from finetune_cli.tasks import METRICS

Get = Callable[[str], Any]


class Mistake(NamedTuple):
    """Where the mistake is, and what to say. at_key: the key is wrong, not its value."""

    path: KeyPath
    message: str
    at_key: bool = False


class UnusableValue(Exception):
    """A rule needs a value that is reported as wrong already."""


def column_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def with_choice(problem: str, name: str, allowed: list[str]) -> str:
    hint = "" if name in METRICS else did_you_mean(name, allowed, before=". ")
    return f"{problem}. Allowed: {', '.join(allowed)}{hint}"
