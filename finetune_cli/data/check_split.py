"""All checks of one split: fed with its rows as they are tokenised, asked for its findings at the end. N rows."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from finetune_cli.data.check_repeats import SeenTexts, TextHashes
from finetune_cli.data.check_texts import TextScan
from finetune_cli.data.findings import ROWS_SHOWN, Finding, Tally, excerpt, rows_of

BLOCK_ROWS = 256  # looked at together: enough to be fast, little memory when texts are long
TRUNCATED_SHARE = 0.01  # of rows that are cut; a few long ones are in most data
LONG_TIMES = 10  # the length that 95 % of the rows do not exceed

TextsAt = Callable[[Sequence[int]], Mapping[int, str]]


class SplitChecks:
    """The texts and lengths of one split.

    where: file or source, for messages. max_length: tokens kept of a row.
    """

    def __init__(self, split: str, where: str, *, max_length: int) -> None:
        self.split = split
        self.where = where
        self.max_length = max_length
        self.scan = TextScan()
        self.hashes = TextHashes()
        self._lengths = array("i")

    def add(self, rows: Sequence[int], columns: Sequence[Sequence[str]], true_lengths: np.ndarray) -> None:
        """Some more rows. columns: one sequence of texts for each text column. true_lengths: int32, before cutting."""
        for start in range(0, len(rows), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            texts = [column[block] for column in columns]
            empty = self.scan.add(rows[block], texts)
            self.hashes.add(rows[block], texts, empty)
        self._lengths.frombytes(np.ascontiguousarray(true_lengths, np.int32).tobytes())

    def findings(
        self, labels: np.ndarray | None, label_of: Callable[[int], str], seen: Iterable[SeenTexts], texts_at: TextsAt
    ) -> list[Finding]:
        """labels: class numbers or values (N,), None for a split without labels. label_of: a row's label in words, by
        its place. seen: the splits before this one. texts_at: row numbers, from 0 -> their texts."""
        repeats = [*self._repeated(labels, label_of), *self._overlaps(seen)]
        texts = texts_at([row for _, row in repeats])
        shown = [replace(finding, example=f"{finding.example}: {excerpt(texts[row])}") for finding, row in repeats]
        return [*self._scanned(), *self._lengthy(), *shown]

    def _scanned(self) -> Iterator[Finding]:
        scan, total = self.scan, len(self._lengths)
        if scan.empty.count:
            yield self._finding(
                "empty_text",
                scan.empty,
                f"{rows_of(scan.empty.count, total, 'has', 'have')} an empty text",
                "Write a text there, or remove the rows: nothing can be read from them.",
            )
        if scan.encoding.count:
            yield self._finding(
                "encoding",
                scan.encoding,
                f"{rows_of(scan.encoding.count, total, 'looks', 'look')} like text in another encoding, or with "
                f"control characters",
                "Convert the original to UTF-8 once (iconv -f ENCODING -t UTF-8) and make the file from it.",
            )
        if scan.markup.count:
            yield self._finding(
                "markup",
                scan.markup,
                f"{rows_of(scan.markup.count, total, 'has', 'have')} HTML tags or entities",
                "Turn them into plain text, here and wherever the model will be used.",
            )

    def _lengthy(self) -> Iterator[Finding]:
        lengths = np.frombuffer(self._lengths, np.int32)
        cut = np.flatnonzero(lengths > self.max_length)
        if len(cut) > TRUNCATED_SHARE * len(lengths):
            yield self._finding(
                "truncated",
                self._tally(cut),
                f"{rows_of(len(cut), len(lengths), 'is', 'are')} longer than {self.max_length} tokens and cut "
                f"({len(cut) / len(lengths):.1%})",
                "Raise data.max_length as far as the model allows, or choose what is cut with data.truncation.",
            )
        usual = int(np.quantile(lengths, 0.95, method="lower"))
        long = np.flatnonzero(lengths > LONG_TIMES * usual)
        if len(long):
            longest = f"row {self.hashes.rows[lengths.argmax()] + 1:,} with {lengths.max():,} tokens"
            yield self._finding(
                "long_rows",
                self._tally(long, longest),
                f"{rows_of(len(long), len(lengths), 'is', 'are')} more than {LONG_TIMES} times as long as 95 % of the "
                f"rows ({usual} tokens)",
                "Look whether several rows were run together, by a missing quotation mark, say.",
            )

    def _repeated(self, labels: np.ndarray | None, label_of: Callable[[int], str]) -> Iterator[tuple[Finding, int]]:
        """Findings with the row whose text is to be shown."""
        repeats, rows, total = self.hashes.repeats(labels), self.hashes.rows, len(self._lengths)
        if len(repeats.same):
            row, before = int(rows[repeats.same[0]]), int(rows[repeats.same_as[0]])
            tally = self._tally(repeats.same, f"row {row + 1}, the same as row {before + 1}")
            what = "text" if labels is None else "text and label"
            problem = f"{rows_of(tally.count, total, 'repeats', 'repeat')} the {what} of an earlier row"
            advice = "Keep one of each: repeats weigh more in training and make scores look more certain than they are."
            yield self._finding("duplicates", tally, problem, advice), row
        if len(repeats.contrary):
            places = [int(repeats.contrary_to[0]), int(repeats.contrary[0])]
            both = " and ".join(f"row {rows[place] + 1} with {label_of(place)}" for place in places)
            tally = self._tally(repeats.contrary, both)
            problem = f"{rows_of(tally.count, total, 'has', 'have')} the text of an earlier row but another label"
            advice = "Decide for one label, or remove these texts: no model can get both right."
            yield self._finding("contradictions", tally, problem, advice), int(rows[places[1]])

    def _overlaps(self, seen: Iterable[SeenTexts]) -> Iterator[tuple[Finding, int]]:
        for before in seen:
            places, theirs = before.find(self.hashes.folded)
            if len(places):
                row = int(self.hashes.rows[places[0]])
                tally = self._tally(places, f"row {row + 1}, in {before.split} row {theirs[0] + 1}")
                problem = (
                    f"{rows_of(tally.count, len(self._lengths), 'has', 'have')} the text of a row in {before.split} "
                    f"(case, blanks and punctuation aside)"
                )
                advice = (
                    f"Remove them from {before.split}, or here: on known texts a model scores better than on new ones."
                )
                yield self._finding("overlap", tally, problem, advice), row

    def _tally(self, places: np.ndarray, example: str | None = None) -> Tally:
        return Tally(len(places), [int(row) + 1 for row in self.hashes.rows[places[:ROWS_SHOWN]]], example)

    def _finding(self, check: str, tally: Tally, problem: str, advice: str) -> Finding:
        return Finding(check, self.split, self.where, tally.count, tally.rows, problem, tally.example, advice)
