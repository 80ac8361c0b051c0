"""Records as JSON has them, and back: what every record's `to_json` and `from_json` begin with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

R = TypeVar("R")


def as_json(record: Any, *, drop_null: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a record, and of the records in it: by their own `to_json` where they have one.

    A path becomes text. NaN and infinity become None, since JSON has neither. drop_null: entries that are left out
    where they are None.
    """
    entries = ((entry.name, getattr(record, entry.name)) for entry in dataclasses.fields(record))
    return {name: plain(value, drop_null) for name, value in entries if value is not None or name not in drop_null}


def plain(value: Any, drop_null: Collection[str] = ()) -> Any:
    """A value, such as a field of a record; see as_json."""
    if dataclasses.is_dataclass(value):
        return value.to_json() if hasattr(value, "to_json") else as_json(value, drop_null=drop_null)
    if isinstance(value, Mapping):
        return {key: plain(inner, drop_null) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, drop_null) for inner in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_finite_number(value: Any) -> bool:
    """Whether it is a number in JSON's sense: true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def from_plain(kind: type[R], value: Any) -> R:
    """A record, and the records in it, from what `as_json` made of it; entries that it does not have are left out.

    Raises pydantic's ValidationError, a ValueError, for an entry that is missing or of another type.
    """
    reader: Callable[[Any], TypeAdapter[R]] = _reader  # the cache hides what it takes
    return reader(kind).validate_python(value)


@cache
def _reader(kind: Any) -> Any:
    from pydantic import TypeAdapter  # here, since `finetune --help` does without it

    return TypeAdapter(kind)
