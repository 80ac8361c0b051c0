"""Whether the first line of a table is a row and no header, and what to type then."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
SENTENCE_WORDS, SENTENCE_CHARACTERS = 6, 60


def is_a_row(fields: Sequence[str], below: Sequence[Sequence[str]], *, is_needed: bool) -> bool:
    """Whether a first line without any needed column looks like a row.

    below: the rows under it with as many cells. is_needed: some columns are known to be needed.
    """
    if list(fields) == [str(place) for place in range(len(fields))]:
        return False  # pandas' names for columns that have none
    repeated = any(cell and cell == cells[place] for cells in below for place, cell in enumerate(fields))
    has_number = any(NUMBER.fullmatch(cell) for cell in fields)
    has_sentence = any(len(cell.split()) >= SENTENCE_WORDS or len(cell) >= SENTENCE_CHARACTERS for cell in fields)
    if not is_needed:
        return (repeated or has_number) and has_sentence
    return repeated or has_number or has_sentence


def no_header(fields: Sequence[str], needed: Collection[str] | None) -> str:
    """needed: the columns that were looked for; the last ones are the label's and the id's."""
    shown = ", ".join(repr(cell if len(cell) <= 40 else f"{cell[:40]}...") for cell in fields)
    wanted = f"expected the columns {', '.join(map(repr, needed))}; " if needed else ""
    return (
        f"{wanted}found {shown}, which is a row: the file seems to have no header. Name its {len(fields)} columns in "
        f"their order, -s 'data.columns=[{', '.join(_suggested(fields))}]', or write the names in a first line."
    )


def _suggested(fields: Sequence[str]) -> list[str]:
    """Names to start from: the longest cell is likely the text, a number or the shortest one the label."""
    longest = max(range(len(fields)), key=lambda place: len(fields[place]))
    others = [place for place in range(len(fields)) if place != longest]
    numbers = [place for place in others if NUMBER.fullmatch(fields[place])]
    label = min(numbers or others, key=lambda place: len(fields[place]) or SENTENCE_CHARACTERS, default=None)
    names = {longest: "text", label: "label"}
    return [names.get(place, f"column_{place + 1}") for place in range(len(fields))]
