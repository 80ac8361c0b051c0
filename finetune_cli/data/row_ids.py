"""The id of a row: one rule for rows that are scored, rows that are predicted, and the texts of a report."""

from __future__ import annotations

from typing import Any

from finetune_cli.data.readers import Values

USUAL_COLUMNS = ("id", "idx")  # where data.id names none; idx is GLUE's own row number


def id_columns(named: str | None) -> tuple[str, ...]:
    """The columns that may hold the id, the first choice first. named: data.id."""
    return USUAL_COLUMNS if named is None else (named,)


def row_id(row: int, values: Values, named: str | None) -> Any:
    """The value in the column that data.id names; where it names none in `id`, else `idx`; else `row`, from 0.

    A cell that is no id is passed over. Where data.id names a column that the rows have, `checked_rows` refuses such a
    cell before; where they lack it, as texts for `predict` may, the numbers are what is left.
    """
    cells = (values.get(column) for column in id_columns(named))
    return next((cell for cell in cells if is_id(cell)), row)


def is_id(cell: object) -> bool:
    """Whether a cell can name a row: a text that is not empty, or a whole number."""
    return isinstance(cell, str | int) and not isinstance(cell, bool) and cell != ""
