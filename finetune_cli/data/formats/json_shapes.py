"""What is said of JSON that holds rows in another form than one object for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from finetune_cli.errors import DataError

IN_PANDAS = 'in pandas to_json(..., orient="records", lines=True).'


def not_an_object(value: object) -> str:
    if isinstance(value, list):
        return "expected one JSON object per line, found a list. Write each of its objects on a line of its own."
    return f"expected one JSON object with at least one key, found {json.dumps(value, ensure_ascii=False)[:40]}."


def refuse_other_shapes(value: dict[str, Any], name: str, needed: Sequence[str]) -> None:
    """Raise DataError for a first object that holds all rows: as columns, as pandas writes them, or inside a list.

    needed: the columns that are looked for; one of them makes it a row.
    """
    kind = next((kind for kind in (list, dict) if all(isinstance(item, kind) for item in value.values())), None)
    if kind is not None:
        found = "one object of lists (a column each)" if kind is list else "one object of objects (a column each)"
        raise DataError(
            f"{name}: expected one JSON object per line and row, found {found}. "
            f'Write rows instead: {{"{next(iter(value))}": ...}} on each line; {IN_PANDAS}'
        )
    if set(needed) & set(value):
        return
    if {"columns", "data"} <= set(value):
        raise DataError(
            f"{name}: expected one JSON object per line and row, found the columns and the data apart. "
            f"Write rows instead; {IN_PANDAS}"
        )
    inner = [key for key, item in value.items() if isinstance(item, list) and item and isinstance(item[0], dict)]
    if inner and needed:
        raise DataError(
            f"{name}: expected the columns {', '.join(map(repr, needed))} in one JSON object per row, found one object "
            f"whose {inner[0]!r} holds a list of objects. Write that list alone: jq .{inner[0]} {name} > rows.json"
        )
