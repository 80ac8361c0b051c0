"""Which column is the label, or which columns with 0 and 1 are."""

from __future__ import annotations

from collections.abc import Mapping

from finetune_cli.data.label_cells import SEPARATOR, split_names
from finetune_cli.data.survey.columns import ID_NAME, ChosenColumns, Column
from finetune_cli.data.survey.names import is_label_name, is_surely_label
from finetune_cli.data.survey.texts import listed, looks_like_no_text, quoted
from finetune_cli.errors import DataError

MANY_CLASSES = 200  # different texts: more are hardly classes, unless the column is called label
ID_CHARACTERS = 64  # on average, at most


class NoLabelError(DataError):
    """The rows have texts, and no answers to learn from."""


def is_id(column: Column) -> bool:
    able = column.is_whole or (column.is_text and column.mean_characters <= ID_CHARACTERS)
    return bool(ID_NAME.fullmatch(column.name)) and able and column.rows > 1 and column.is_unique


def surest_label(columns: Mapping[str, Column]) -> tuple[str, ...]:
    """A column that is called label and can be one, so that it is not taken for a text."""
    return tuple(name for name, column in columns.items() if is_surely_label(name) and _can_be_label(column))[:1]


def choose_label(columns: Mapping[str, Column], where: str) -> ChosenColumns:
    """One column, or all with 0 and 1. Raises NoLabelError when no column looks like a label."""
    able = {name: column for name, column in columns.items() if _can_be_label(column) and not _is_counter(column)}
    named = [name for name in able if is_label_name(name)]
    flags = [name for name, column in able.items() if column.is_flag]
    surest = [name for name in named if is_surely_label(name)]
    if len(flags) > 1 and not surest and not [name for name in named if name not in flags]:
        return ChosenColumns(
            tuple(flags),
            f"{len(flags)} columns with 0 and 1, any number of them in a row",
            "are these the classes, all of them, and no other facts about the rows?",
        )
    if not able:
        raise NoLabelError(_none_found(columns, where))
    best, *others = sorted(able.values(), key=_rank)
    why = "called so" if best.name in named else "few different values" if best.counts else "numbers"
    question = ""
    if best.name not in surest and others:
        names = [other.name for other in others]
        question = f"is it this column? {listed(names)} could be the label as well: --label {quoted(names[0])}"
    return ChosenColumns((best.name,), why, question)


def _rank(column: Column) -> tuple[bool, bool, bool, int]:
    return (
        not is_surely_label(column.name),
        not is_label_name(column.name),
        column.is_number and not column.is_whole,
        len(column.counts or range(MANY_CLASSES + 1)),
    )


def _none_found(columns: Mapping[str, Column], where: str) -> str:
    constant = [name for name, column in columns.items() if column.counts and len(column.counts) == 1]
    hint = f" ({listed(constant)} has one value only)" if constant else ""
    return (
        f"{where}: no column looks like a label; beside the text there is {', '.join(columns) or 'nothing'}{hint}. "
        f"Training needs the right answer in each row: add a column, or name it: --label COLUMN."
    )


def _can_be_label(column: Column) -> bool:
    if column.is_list or column.is_number:
        return column.is_list or column.counts is None or len(column.counts) > 1
    if column.counts is None or len(column.counts) < 2:
        return False
    if is_surely_label(column.name):
        return True
    if looks_like_no_text(column):
        return False
    return len(column.counts) <= min(MANY_CLASSES, max(2, column.present / 2)) or has_joined_names(column)


def _is_counter(column: Column) -> bool:
    """A number for each row is an id."""
    return column.is_unique and (is_id(column) or (column.is_whole and not is_label_name(column.name)))


def has_joined_names(column: Column) -> bool:
    """Whether cells hold several names, as `a|b` or JSON lists, that are there in other cells as well."""
    cells = list(column.counts or ())
    joined = [cell for cell in cells if SEPARATOR in cell or cell.lstrip().startswith("[")]
    if not joined:
        return False
    try:
        parts = [split_names(cell) for cell in cells]
    except ValueError:
        return False
    names = {str(name) for part in parts if isinstance(part, list) for name in part}
    return len(names) <= min(MANY_CLASSES, 2 * len(cells))
