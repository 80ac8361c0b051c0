"""All checks of one split: fed with its rows as they are tokenised, asked for its findings at the end. N rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.data.checks.findings import ROWS_SHOWN, Tally, excerpt, rows_of
from finetune_cli.data.checks.repeats import TextHashes, repeated_hashes
from finetune_cli.data.checks.spilled import SpilledArray
from finetune_cli.data.checks.texts import TextScan
from finetune_cli.data.row_lengths import RowLengths
from finetune_cli.records.preparation import Finding

BLOCK_ROWS = 256  # looked at together: enough to be fast, little memory when texts are long
TRUNCATED_SHARE = 0.01  # of rows that are cut; a few long ones are in most data
MUCH_LOST = 0.05  # of a split's tokens: enough to look for another way
LONG_TIMES = 10  # the usual length
HAS, IS = ("has", "have"), ("is", "are")

TextsAt = Callable[[Sequence[int]], Mapping[int, str]]


class SplitChecks:
    """The texts and lengths of one split.

    where: file or source, for messages. lengths: of its rows, counted beside. folder: where what has to be compared
    over all rows is kept meanwhile.
    """

    def __init__(self, split: str, where: str, lengths: RowLengths, folder: Path) -> None:
        self.split = split
        self.where = where
        self.lengths = lengths
        self.scan = TextScan()
        self.hashes = TextHashes(split, folder)
        self._lengths = SpilledArray(folder, np.int32)
        self._ids = SpilledArray(folder, np.int64)  # hashes
        self._id_rows = SpilledArray(folder, np.int64)

    def add(self, rows: Sequence[int], columns: Sequence[Sequence[str]], true_lengths: np.ndarray) -> None:
        """Some more rows. columns: one sequence of texts for each text column. true_lengths: int32, before cutting."""
        for start in range(0, len(rows), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            texts = [column[block] for column in columns]
            empty = self.scan.add(rows[block], texts)
            self.hashes.add(rows[block], texts, empty)
        self._lengths.append(true_lengths)

    def add_ids(self, rows: Sequence[int], ids: Sequence[Any]) -> None:
        """The ids of some rows, which name them in predictions; rows without one of their own may be left out."""
        self._ids.append([hash((identity,)) for identity in ids])
        self._id_rows.append(rows)

    def findings(
        self, labels: np.ndarray | None, label_of: Callable[[int], str], seen: Iterable[TextHashes], texts_at: TextsAt
    ) -> list[Finding]:
        """labels: class numbers or values (N,), None for a split without labels. label_of: a row's label in words, by
        its place. seen: the splits before this one. texts_at: row numbers, from 0 -> their texts."""
        repeats = [*self._repeated(labels, label_of), *self._overlaps(seen)]
        texts = texts_at([row for _, row in repeats])
        shown = [replace(finding, example=f"{finding.example}: {excerpt(texts[row])}") for finding, row in repeats]
        others = [*self._scanned(), *self._lengthy(), self._repeated_ids()]
        return [*(finding for finding in others if finding.count), *shown]

    def _scanned(self) -> Iterator[Finding]:
        advice = "Write a text there, or remove the rows: nothing can be read from them."
        yield self._finding("empty_text", self.scan.empty, HAS, "an empty text", advice)
        problem = "like text in another encoding, or with control characters"
        advice = "Convert the original to UTF-8 once (iconv -f ENCODING -t UTF-8) and make the file from it."
        yield self._finding("encoding", self.scan.encoding, ("looks", "look"), problem, advice)
        advice = "Turn them into plain text, here and wherever the model will be used."
        yield self._finding("markup", self.scan.markup, HAS, "HTML tags or entities", advice)

    def _lengthy(self) -> Iterator[Finding]:
        lengths, usual, longest = self.lengths, self.lengths.usual, self.lengths.longest
        if lengths.num_cut > TRUNCATED_SHARE * lengths.num_rows:
            problem = (
                f"longer than {lengths.max_length} tokens and cut ({lengths.num_cut / lengths.num_rows:.1%}), which "
                f"loses {lengths.lost_share:.1%} of all tokens"
            )
            advice = "Raise data.max_length where the model takes more, or choose what is cut with data.truncation."
            if lengths.lost_share >= MUCH_LOST:
                advice = (
                    "Raise data.max_length where the model takes more; else data.long_texts: windows reads all of each "
                    "text, and head_tail the beginning and the end."
                )
            yield self._finding("truncated", self._longer_than(lengths.max_length), IS, problem, advice)
        if longest > LONG_TIMES * usual:
            tally = self._longer_than(LONG_TIMES * usual)
            tally.example = f"row {self._longer_than(longest - 1).rows[0]:,} with {longest:,} tokens"
            problem = f"more than {LONG_TIMES} times as long as 95 % of the rows ({usual} tokens)"
            advice = "Look whether several rows were run together, by a missing quotation mark, say."
            yield self._finding("long_rows", tally, IS, problem, advice)

    def _longer_than(self, tokens: int) -> Tally:
        tally = Tally()
        for start, lengths in self._lengths.blocks():
            places = start + np.flatnonzero(lengths > tokens)
            tally.count += len(places)
            tally.rows += self._row_numbers(places[: ROWS_SHOWN - len(tally.rows)])
        return tally

    def _repeated_ids(self) -> Finding:
        places = repeated_hashes(self._ids)
        tally = Tally(len(places), [row + 1 for row in self._id_rows.at(places[:ROWS_SHOWN])])
        advice = (
            "compare pairs rows by id, and refuses these. Set data.id to a column without repeats; rows are numbered "
            "where there is neither that nor a column idx."
        )
        return self._finding("duplicates", tally, HAS, "the id of an earlier row", advice)

    def _repeated(self, labels: np.ndarray | None, label_of: Callable[[int], str]) -> Iterator[tuple[Finding, int]]:
        """Findings with the row whose text is to be shown."""
        repeats = self.hashes.repeats(labels)
        if len(repeats.same):
            row, before = self._row_numbers([repeats.same[0], repeats.same_as[0]])
            tally = self._tally(repeats.same, f"row {row}, the same as row {before}")
            problem = f"the {'text' if labels is None else 'text and label'} of an earlier row"
            advice = "Keep one of each: repeats weigh more in training and make scores look more certain than they are."
            yield self._finding("duplicates", tally, ("repeats", "repeat"), problem, advice), row - 1
        if len(repeats.contrary):
            places = [int(repeats.contrary_to[0]), int(repeats.contrary[0])]
            rows = self._row_numbers(places)
            both = " and ".join(f"row {row} with {label_of(place)}" for row, place in zip(rows, places, strict=True))
            tally = self._tally(repeats.contrary, both)
            problem = "the text of an earlier row but another label"
            advice = "Decide for one label, or remove these texts: no model can get both right."
            yield self._finding("contradictions", tally, HAS, problem, advice), rows[1] - 1

    def _overlaps(self, seen: Iterable[TextHashes]) -> Iterator[tuple[Finding, int]]:
        for before in seen:
            places, theirs = self.hashes.also_in(before)
            if len(places):
                (row,), (other,) = self._row_numbers(places[:1]), before.rows.at(theirs[:1])
                tally = self._tally(places, f"row {row}, in {before.split} row {other + 1}")
                problem = f"the text of a row in {before.split} (case, blanks and punctuation aside)"
                advice = (
                    f"Remove them from {before.split}, or here: on known texts a model scores better than on new ones."
                )
                yield self._finding("overlap", tally, HAS, problem, advice), row - 1

    def _tally(self, places: np.ndarray, example: str) -> Tally:
        return Tally(len(places), self._row_numbers(places[:ROWS_SHOWN]), example)

    def _row_numbers(self, places: Sequence[int] | np.ndarray) -> list[int]:
        """From 1, as messages say them."""
        return [row + 1 for row in self.hashes.rows.at(places)]

    def _finding(self, check: str, tally: Tally, verbs: tuple[str, str], problem: str, advice: str) -> Finding:
        """problem: what follows `3 of 9 rows have`. verbs: of one row and of several."""
        problem = f"{rows_of(tally.count, len(self._lengths), *verbs)} {problem}"
        return Finding(check, self.split, self.where, tally.count, tally.rows, problem, tally.example, advice)
