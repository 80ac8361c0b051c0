"""Texts that occur more than once: in one split, and in several. N rows of a split.

Texts are remembered as 8-byte hashes on disk and compared by sorting, a part of them at a time. What stays in memory
grows with the number of repeated rows alone. Two different texts among a million share a hash with a chance of 3e-8.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from finetune_cli.data.checks.spilled import SpilledArray

PART = 1 << 17  # hashes sorted at once

NO_TEXT = 0
# Beside ASCII punctuation and what NFKC turns into it.
PUNCTUATION = "\u2018\u2019\u201a\u201c\u201d\u201e\xab\xbb\u2039\u203a\u2010\u2011\u2013\u2014\xa1\xbf\xb7\u3001\u3002"
DROPPED_BYTES = b" \t\r\n\v\f!\"#%&'()*,-./:;?@[\\]_{}"  # symbols such as + < = > ^ $ stay: they can be the content


@dataclass(frozen=True)
class Repeats:
    """Places of rows, int64.

    same: rows that repeat text and label of an earlier one, which is at same_as. contrary: rows whose text occurred
    before with another label, first at contrary_to; a row can be among both.
    """

    same: np.ndarray
    same_as: np.ndarray
    contrary: np.ndarray
    contrary_to: np.ndarray


class TextHashes:
    """The texts of one split as hashes, in the order of the rows, which are numbered from 0.

    folder: where they are kept while this object lives.
    """

    def __init__(self, split: str, folder: Path) -> None:
        self.split = split
        self.rows = SpilledArray(folder, np.int64)  # the row number of each place: rows may be left out
        self._exact = SpilledArray(folder, np.int64)
        self._folded = SpilledArray(folder, np.int64)  # without case, blanks and punctuation

    def add(self, rows: Sequence[int], columns: Sequence[Sequence[str]], empty: Sequence[int]) -> None:
        """Some more rows: one sequence of texts for each text column. empty: places of those with no text."""
        exact = list(map(hash, columns[0] if len(columns) == 1 else zip(*columns, strict=True)))
        folded = folded_keys(columns)
        for place in empty:
            exact[place] = folded[place] = NO_TEXT
        self.rows.append(rows)
        self._exact.append(exact)
        self._folded.append(folded)

    def repeats(self, labels: np.ndarray | None) -> Repeats:
        """Rows with exactly the same text, in order. labels: class numbers or values (N,); None: there are none."""
        found = [Repeats(*[np.zeros(0, np.int64)] * 4)]
        for keys, places in _parts(self._exact):
            equal = keys[1:] == keys[:-1]
            in_group = np.append(equal, False) | np.append(False, equal)
            starts = ~np.append(False, equal)[in_group]  # a group is a run of equal texts, in the order of the rows
            repeated = places[in_group]
            of_row = np.zeros(len(repeated)) if labels is None else labels[repeated]
            found.append(_repeats(repeated, np.cumsum(starts) - 1, of_row))
        same, same_as, contrary, contrary_to = map(np.concatenate, zip(*map(astuple, found), strict=True))
        by_same, by_contrary = np.argsort(same), np.argsort(contrary)
        return Repeats(same[by_same], same_as[by_same], contrary[by_contrary], contrary_to[by_contrary])

    def also_in(self, other: TextHashes) -> tuple[np.ndarray, np.ndarray]:
        """Places in order whose text, folded, `other` has too, and the first place that has it there; int64 (M,)."""
        found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for keys, places in _parts(self._folded):
            different, which = np.unique(keys, return_inverse=True)
            first = other._first_places(different)[which]
            found.append((places[first >= 0], first[first >= 0]))
        here, there = map(np.concatenate, zip(*found, strict=True))
        order = np.argsort(here)
        return here[order], there[order]

    def _first_places(self, keys: np.ndarray) -> np.ndarray:
        """Where each of these folded hashes, sorted (K,), occurs first; -1 for those that do not; int64 (K,)."""
        first = np.full(len(keys), -1)
        for start, block in self._folded.blocks():
            nearest = np.minimum(np.searchsorted(keys, block), len(keys) - 1)
            hits = np.flatnonzero((keys[nearest] == block) & (first[nearest] < 0))[::-1]
            first[nearest[hits]] = start + hits  # backwards: of several in this block the first one stays
        return first


def repeated_hashes(hashes: SpilledArray) -> np.ndarray:
    """Places in order, int64 (M,), of those that occurred before."""
    found = [np.zeros(0, np.int64)]
    for keys, places in _parts(hashes):
        found.append(places[1:][keys[1:] == keys[:-1]])
    return np.sort(np.concatenate(found))


def _parts(hashes: SpilledArray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Hashes of texts with their places, sorted by both, in parts of about PART: equal hashes are in the same part."""
    count = max(1, -(-len(hashes) // PART))
    for number in range(count):
        keys, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for start, block in hashes.blocks():
            chosen = np.flatnonzero((block % count == number) & (block != NO_TEXT))
            keys.append(block[chosen])
            places.append(start + chosen)
        all_keys, all_places = np.concatenate(keys), np.concatenate(places)
        order = np.argsort(all_keys, kind="stable")
        if len(order):
            yield all_keys[order], all_places[order]


def _repeats(places: np.ndarray, group: np.ndarray, labels: np.ndarray) -> Repeats:
    """All (M,), M the rows whose text occurs twice or more, sorted by group and place."""
    by_label = np.lexsort((places, labels, group))
    g, y, p = group[by_label], labels[by_label], places[by_label]
    again = np.flatnonzero((g[1:] == g[:-1]) & (y[1:] == y[:-1])) + 1
    _, firsts = np.unique(group, return_index=True)
    first = firsts[group]  # where each row's group begins
    differs = labels != labels[first]
    # Of rows a, b, a the last one contradicts the second, although it repeats the first.
    after = np.where(differs, np.arange(len(group)), len(group))
    first_other = np.minimum.reduceat(after, np.unique(group, return_index=True)[1])[group] if len(group) else after
    contrary = np.flatnonzero(differs | (np.arange(len(group)) > first_other))
    against = np.where(differs, first, first_other)[contrary]
    return Repeats(p[again], p[again - 1], places[contrary], places[against])


def folded_keys(columns: Sequence[Sequence[str]]) -> list[int]:
    """Hashes of the rows' folded texts, which differ from process to process; NO_TEXT where nothing is left of them.

    columns: one sequence of texts for each text column.
    """
    folded = [fold(texts) for texts in columns]
    if len(folded) == 1:
        return list(map(hash, folded[0]))  # of nothing but punctuation: b"", whose hash is NO_TEXT
    return [hash(pair) if any(pair) else NO_TEXT for pair in zip(*folded, strict=True)]


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
