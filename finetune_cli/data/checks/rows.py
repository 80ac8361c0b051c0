"""What each row must have: the columns that the config names, and text in the text columns."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from finetune_cli.data.formats.row import BadRow, Row, Values, is_id
from finetune_cli.errors import DataError, did_you_mean

logger = logging.getLogger(__name__)


def checked_rows(
    rows: Iterator[Row],
    *,
    where: str,
    text: Sequence[str],
    required: Mapping[str, str] | None = None,
    id_column: str | None = None,
) -> Iterator[Row]:
    """The rows, those without usable text or id turned into BadRow.

    where: file or split, for messages. text: the text columns. required: further columns that each row must have, with
    the config key that names them, such as {"label": "data.label"}. id_column: data.id; where the first row has that
    column, each row must have a usable id in it. Other columns are let through.
    Raises DataError when the first row lacks a column: then the name is wrong, not the row.
    """
    columns = dict.fromkeys(text, "data.text") | dict(required or {})
    is_first = True
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        number, values = row
        if is_first:
            _require_columns(values, columns, where)
            if id_column in values:
                columns[id_column] = "data.id"
            elif id_column is not None and len(values) > len(text):  # rows of texts alone have no names anyway
                logger.warning("%s: no column %r (data.id); the ids are row numbers, from 0.", where, id_column)
            is_first = False
        if problem := _problem(values, text, columns):
            yield BadRow(where, number, None, problem, values)
        else:
            yield row


def _require_columns(values: Values, columns: Mapping[str, str], where: str) -> None:
    missing = [column for column in columns if column not in values]
    if not missing:
        return
    column = missing[0]
    by_lower = {name.lower(): name for name in values}
    hint = did_you_mean(column.lower(), by_lower, shown=lambda name: repr(by_lower[name]))
    raise DataError(
        f"{where}: expected the {'columns' if len(missing) > 1 else 'column'} {', '.join(map(repr, missing))}; found "
        f"{', '.join(map(repr, values))}.{hint} Name yours: -s {columns[column]}=..."
    )


def _problem(values: Values, text: Sequence[str], columns: Mapping[str, str]) -> str | None:
    for column in columns:
        if column not in values:
            return f"expected the column {column!r}, found only {', '.join(map(repr, values))}."
    for column in text:
        value = values[column]
        if not isinstance(value, str):
            found = "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
            return f"expected text in column {column!r}, found {found}. Write a text there, or leave the row out."
    no_ids = [values[name] for name, key in columns.items() if key == "data.id" and not is_id(values[name])]
    return f"expected a text or whole number in data.id, found {no_ids[0]!r}." if no_ids else None
