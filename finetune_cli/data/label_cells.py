"""Several class names in one cell of a table: `a|b`, or a JSON list. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

SEPARATOR = "|"


def split_names(cell: str) -> Any:
    """The names in a cell, none in an empty one; for a cell that starts as a JSON list, its content.

    Raises ValueError for a JSON list that is none.
    """
    if not cell.strip():
        return []
    if cell.lstrip().startswith("["):
        return json.loads(cell)
    return [name.strip() for name in cell.split(SEPARATOR)]


def joined_names(names: Sequence[str]) -> str:
    """Names as a cell that `split_names` reads as the same: a JSON list only where `a|b` would be read otherwise."""
    cell, listed = SEPARATOR.join(names), list(names)
    reads_back = not cell.startswith("[") and split_names(cell) == listed
    return cell if reads_back else json.dumps(listed, ensure_ascii=False)
