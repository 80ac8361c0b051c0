"""What one cell says of a row's label: a class name, several of them (`a|b`, or a JSON list), or that there is none.

Imports nothing heavy.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Sequence
from typing import Any

SEPARATOR = "|"
UNLABELLED = "-1"  # GLUE's mark for a label that is not public
MINUS_ONE = (-1, UNLABELLED)
WHOLE_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.0+)?", re.ASCII)
FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
_FLAG = r"(?:[01](?:\.0*)?|[Tt]rue|[Ff]alse)"
VECTOR = re.compile(rf"\s*[\[(]?\s*({_FLAG}(?:[\s,;]+{_FLAG})+)\s*,?\s*[\])]?\s*", re.ASCII)


def class_name(value: Any) -> str:
    """The class name that a value stands for: `1`, `1.0` and "1.0" are "1"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str) and WHOLE_NUMBER.fullmatch(value):
        return value.partition(".")[0]
    return str(value)


def is_nan(cell: Any) -> bool:
    """How Parquet may write a missing value."""
    return isinstance(cell, float) and math.isnan(cell)


def is_missing(cell: Any) -> bool:
    """Whether a cell of a column with 0 and 1 says nothing."""
    return cell is None or cell == "" or cell in MINUS_ONE or is_nan(cell)


def all_missing(listed: Sequence[Any]) -> bool:
    """A vector of -1, or of nulls: how several labels that are not public are marked."""
    return len(listed) > 1 and all(cell is None or cell in MINUS_ONE for cell in listed)


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
