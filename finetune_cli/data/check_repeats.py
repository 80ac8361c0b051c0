"""Texts that occur more than once: in one split, and in several. N rows of a split.

Texts are remembered as 8-byte hashes in arrays and compared by sorting: 24 bytes per row while a split is read, 16
after it, whatever the length of the texts. Two different texts among a million share a hash with a chance of 3e-8.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NO_TEXT = 0
# Beside ASCII punctuation and what NFKC turns into it.
PUNCTUATION = "\u2018\u2019\u201a\u201c\u201d\u201e\xab\xbb\u2039\u203a\u2010\u2011\u2013\u2014\xa1\xbf\xb7\u3001\u3002"
DROPPED_BYTES = b" \t\r\n\v\f!\"#%&'()*,-./:;?@[\\]_{}"  # symbols such as + < = > ^ $ stay: they can be the content


@dataclass(frozen=True)
class Repeats:
    """Places of rows in order, int64.

    same: rows that repeat text and label of an earlier one, which is at same_as. contrary: rows whose text occurred
    before with another label, first at contrary_to.
    """

    same: np.ndarray
    same_as: np.ndarray
    contrary: np.ndarray
    contrary_to: np.ndarray


@dataclass(frozen=True)
class SeenTexts:
    """The texts of a split that has been read. keys: sorted hashes, int64 (N,). rows: the row of each, int64 (N,)."""

    split: str
    keys: np.ndarray
    rows: np.ndarray

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in `keys` whose text is in this split, and the first row that has it here."""
        if not len(self.keys):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        nearest = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        places = np.flatnonzero((self.keys[nearest] == keys) & (keys != NO_TEXT))
        return places, self.rows[nearest[places]]


class TextHashes:
    """The texts of one split as hashes, in the order of the rows."""

    def __init__(self) -> None:
        self._exact, self._folded, self._rows = array("q"), array("q"), array("q")

    def add(self, rows: Sequence[int], columns: Sequence[Sequence[str]], empty: Sequence[int]) -> None:
        """Some more rows: one sequence of texts for each text column. empty: places of those with no text."""
        folded = [fold(texts) for texts in columns]
        start = len(self._rows)
        self._rows.extend(rows)
        if len(columns) == 1:
            self._exact.extend(map(hash, columns[0]))
            self._folded.extend(map(hash, folded[0]))  # of nothing but punctuation: b"", whose hash is NO_TEXT
        else:
            self._exact.extend(map(hash, zip(*columns, strict=True)))
            self._folded.extend(hash(pair) if any(pair) else NO_TEXT for pair in zip(*folded, strict=True))
        for place in empty:
            self._exact[start + place] = self._folded[start + place] = NO_TEXT

    @property
    def rows(self) -> np.ndarray:
        """The row number of each place, from 0, int64 (N,)."""
        return np.frombuffer(self._rows, np.int64)

    @property
    def folded(self) -> np.ndarray:
        """The hash of each text without case, blanks and punctuation, int64 (N,)."""
        return np.frombuffer(self._folded, np.int64)

    def seen(self, split: str) -> SeenTexts:
        """For the splits after this one."""
        order = np.argsort(self.folded, kind="stable")
        return SeenTexts(split, self.folded[order], self.rows[order])

    def repeats(self, labels: np.ndarray | None) -> Repeats:
        """Rows with exactly the same text. labels: class numbers or values (N,); None: rows have no labels."""
        exact = np.frombuffer(self._exact, np.int64)
        order = np.argsort(exact, kind="stable")
        keys = exact[order]
        equal = (keys[1:] == keys[:-1]) & (keys[1:] != NO_TEXT)
        in_group = np.append(equal, False) | np.append(False, equal)
        places = order[in_group]
        starts = ~np.append(False, equal)[in_group]  # a group is a run of equal texts, in the order of the rows
        group = np.cumsum(starts) - 1
        of_row = np.zeros(len(places)) if labels is None else np.asarray(labels)[places]
        return _repeats(places, group, of_row)


def _repeats(places: np.ndarray, group: np.ndarray, labels: np.ndarray) -> Repeats:
    """All (M,), M the rows whose text occurs twice or more, sorted by group and place."""
    by_label = np.lexsort((places, labels, group))
    g, y, p = group[by_label], labels[by_label], places[by_label]
    again = np.flatnonzero((g[1:] == g[:-1]) & (y[1:] == y[:-1])) + 1
    again = again[np.argsort(p[again])]
    _, firsts = np.unique(group, return_index=True)
    first = firsts[group]  # where each row's group begins
    contrary = np.flatnonzero(labels != labels[first])
    contrary = contrary[np.argsort(places[contrary])]
    return Repeats(p[again], p[again - 1], places[contrary], places[first[contrary]])


def fold(texts: Sequence[str]) -> list[bytes]:
    """The texts without case, blanks, punctuation and the variants of characters that Unicode's NFKC knows.

    All are joined by NUL and changed at once, which is ten times as fast as one by one.
    """
    joined = "\0".join(texts)
    if joined.count("\0") >= len(texts):
        joined = "\0".join(text.replace("\0", "") for text in texts)
    if not joined.isascii():
        joined = unicodedata.normalize("NFKC", joined)
        for mark in PUNCTUATION:
            joined = joined.replace(mark, "")
    return joined.casefold().encode("utf-8", "surrogatepass").translate(None, DROPPED_BYTES).split(b"\0")
