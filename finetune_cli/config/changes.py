"""A config with other values in some of its fields, for runs that are made from it."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


def changed(config: M, values: Mapping[str, Any]) -> M:
    """A copy of the config with these values, by dotted key; they are taken as they are, unchecked."""
    update: dict[str, Any] = {}
    for key, value in values.items():
        name, _, inner = key.partition(".")
        update[name] = changed(update.get(name, getattr(config, name)), {inner: value}) if inner else value
    return config.model_copy(update=update)
