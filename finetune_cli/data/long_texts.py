"""Rows that are longer than the model takes: what is kept of them, beside plain truncation.

One text gives way: the only one, or of a pair the second. A first text that is so long that nothing would be left for
the second is cut before, to half of the room at most, or to more where the second needs less than half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finetune_cli.data.windows import WindowSettings
from finetune_cli.errors import ConfigError


@dataclass(frozen=True)
class HeadTail:
    """Keep this share of a long text's room for its beginning, and the rest for its end."""

    share: float


LongTexts = HeadTail | WindowSettings | None  # None: truncation


def kept_as(how: LongTexts) -> str | float:
    """What of the choice decides the stored rows: windows are cut when they are read."""
    if how is None:
        return "truncate"
    return how.share if isinstance(how, HeadTail) else "windows"


@dataclass(frozen=True)
class CutRow:
    """A row in place of a tokenizer's Encoding. edges: see Windows."""

    ids: list[int]
    type_ids: list[int]
    edges: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.ids)


def cut_row(encoding: object, how: HeadTail | WindowSettings, *, max_length: int, keep_end: bool = False) -> CutRow:
    """What is kept of a row that has more than `max_length` tokens.

    encoding: of the whole row, a tokenizers.Encoding. keep_end: of a first text that is too long the end is kept, not
    the beginning. For windows all of the text that gives way is kept. Raises ConfigError when the special tokens leave
    no room.
    """
    texts = np.array([-1 if text is None else text for text in encoding.sequence_ids])  # type: ignore[attr-defined]
    room = max_length - int((texts < 0).sum())
    last = int(texts.max(initial=0))
    if room <= last:
        raise ConfigError(f"data.max_length: {max_length} leaves no room for {last + 1} texts. Set it higher.")
    kept = np.ones(len(texts), bool)
    places = np.flatnonzero(texts == last)
    if last:
        first = np.flatnonzero(texts == 0)
        few = max(room - len(places), room // 2)
        kept[first[: max(0, len(first) - few)] if keep_end else first[few:]] = False
        room -= min(len(first), few)
    if isinstance(how, HeadTail) and len(places) > room:
        head = min(max(round(how.share * room), 1), room - 1)
        kept[places[head : len(places) - (room - head)]] = False
    front, back = (int(kept[: places[0]].sum()), len(texts) - 1 - int(places[-1])) if len(places) else (0, 0)
    shared = room // 2 if last else room  # of a pair little room may be left: a stride as large as that is no mistake
    ids, types = (np.asarray(values)[kept].tolist() for values in (encoding.ids, encoding.type_ids))  # type: ignore[attr-defined]
    return CutRow(ids, types, (front, back, shared))
