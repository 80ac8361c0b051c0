"""Which column is the text, or which two are a pair."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from finetune_cli.data.survey.columns import ChosenColumns, Column
from finetune_cli.data.survey.names import PAIRS, text_rank
from finetune_cli.errors import DataError

NOT_TEXT = re.compile(r"\s*(?:https?://\S+|\S+@\S+\.\w+|\d{1,4}[-./]\d{1,2}[-./]\d{1,4}(?:[T ][\d:.+Z-]*)?)\s*")
FULL_ENOUGH = 0.9  # of the rows: a text that more of them lack is hardly the one to learn from


def choose_text(columns: Mapping[str, Column], where: str) -> ChosenColumns:
    """One column or a pair. Raises DataError when no column looks like a text."""
    pair = _named_pair(columns)
    if pair:
        return ChosenColumns(pair, "two columns that are called like a pair")
    able = [column for column in columns.values() if can_be_text(column)]
    if not able:
        shown = ", ".join(columns) or "none"
        raise DataError(f"{where}: no column looks like a text; found {shown}. Name it: --text COLUMN.")
    best, *others = sorted(able, key=lambda column: (_rank(column), -column.characters))
    why = (
        f"{'called so, ' if text_rank(best.name) < 2 else ''}{best.mean_characters:,.0f} characters on average"
        f"{'' if others else ', the only text'}"
    )
    question = ""
    if rivals := [other.name for other in others if is_prose(other)]:
        both = f"[{rivals[0]}, {best.name}]"
        question = (
            f"could {listed(rivals)} be the text as well? --text {quoted(rivals[0])} takes it; {both} reads the two as "
            f"a pair"
        )
    return ChosenColumns((best.name,), why, question)


def _rank(column: Column) -> int:
    rank = text_rank(column.name)
    return 1 if rank == 0 and column.present < FULL_ENOUGH * column.rows else rank


def _named_pair(columns: Mapping[str, Column]) -> tuple[str, str] | None:
    """Two columns that are known as a pair, or whose names differ in 1 and 2, or a and b, alone."""
    by_lower = {name.lower(): name for name in columns if columns[name].is_text}
    for first, second in PAIRS:
        if first in by_lower and second in by_lower and all(is_prose(columns[by_lower[n]]) for n in (first, second)):
            return by_lower[first], by_lower[second]
    for name in by_lower:
        parts = re.fullmatch(r"(.*?)(_?)(1|a)", name)
        other = parts and f"{parts[1]}{parts[2]}{'2' if parts[3] == '1' else 'b'}"
        if other and other in by_lower and all(is_prose(columns[by_lower[n]]) for n in (name, other)):
            return by_lower[name], by_lower[other]
    return None


def can_be_text(column: Column) -> bool:
    if not column.is_text or column.is_number or column.is_flag:
        return False
    return column.counts is None or not looks_like_no_text(column)


def looks_like_no_text(column: Column) -> bool:
    """Whether its values are addresses or dates."""
    return all(NOT_TEXT.fullmatch(value) for value in list(column.counts or ())[:50])


def is_prose(column: Column) -> bool:
    """Several words in most cells, and hardly a cell twice."""
    varied = column.counts is None or len(column.counts) > column.present / 4
    return can_be_text(column) and varied and column.has_blanks > column.present / 2


def listed(names: Sequence[str]) -> str:
    shown = list(names[:4])
    return " or ".join(shown) if len(names) <= 4 else f"{' or '.join(shown)} (or {len(names) - 4} more)"


def quoted(name: str) -> str:
    """A column as an option's value in a shell."""
    return f"'{name}'" if re.search(r"[\s;&|*?()<>$`\"\\]", name) else name
