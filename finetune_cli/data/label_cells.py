"""Several class names in one cell of a table: `a|b`, or a JSON list. Imports nothing heavy."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

SEPARATOR = "|"
FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
_FLAG = r"(?:[01](?:\.0*)?|[Tt]rue|[Ff]alse)"
VECTOR = re.compile(rf"\s*[\[(]?\s*({_FLAG}(?:[\s,;]+{_FLAG})+)\s*,?\s*[\])]?\s*", re.ASCII)


def split_names(cell: str) -> Any:
    """The names in a cell, none in an empty one; for a cell that starts as a JSON list, its content.

    Raises ValueError for a JSON list that is none.
    """
    if not cell.strip():
        return []
    if cell.lstrip().startswith("["):
        return json.loads(cell)
    return [name.strip() for name in cell.split(SEPARATOR)]


def listed_in(cell: str) -> Any:
    """As `split_names`, and what other programs write: `[1 0 0]` and `1,0,0`, or a list as Python shows it.

    Raises ValueError for a list that is none.
    """
    if vector := VECTOR.fullmatch(cell):
        return [int(flag[0] in "1tT") for flag in re.split(r"[\s,;]+", vector[1])]
    try:
        return split_names(cell)
    except ValueError:
        try:
            return ast.literal_eval(cell.strip())
        except (SyntaxError, MemoryError, RecursionError) as err:
            raise ValueError(f"{cell[:40]!r} is no list") from err


def joined_names(names: Sequence[str]) -> str:
    """Names as a cell that `split_names` reads as the same: a JSON list only where `a|b` would be read otherwise."""
    cell, listed = SEPARATOR.join(names), list(names)
    reads_back = not cell.startswith("[") and split_names(cell) == listed
    return cell if reads_back else json.dumps(listed, ensure_ascii=False)
