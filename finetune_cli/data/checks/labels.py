"""What is odd about the classes: two spellings of one, joined names, rows of one that train lacks, few rows of one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from finetune_cli.data.checks.findings import ROWS_SHOWN, rows_of
from finetune_cli.data.checks.spilled import SpilledArray
from finetune_cli.data.checks.texts import INVISIBLE
from finetune_cli.records.preparation import Finding

IMBALANCE = 10  # times as many rows in the largest class as in the smallest: then accuracy says little
NAMES_SHOWN = 3


# Letters of other scripts that look like Latin ones (the commonest of Unicode's confusables).
LOOK_ALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u0261\u03bf\u03b9\u03bd\u0131",
    "aeopcyxijshdqwgoivi",
)


def as_seen(name: str) -> str:
    """What is left of a name when case, blanks, invisible characters and the ways to write one letter are the same."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    visible = "".join(character for character in folded if character not in INVISIBLE)
    return unicodedata.normalize("NFC", "".join(visible.split())).translate(LOOK_ALIKES)


class LabelChecks:
    """The labels of one split, once all its rows are read.

    labels: class numbers (N,), of several labels a row 0 and 1 (N, C). rows: their numbers, from 0. names: of the
    classes. where: file or source, for messages.
    """

    def __init__(self, labels: np.ndarray, rows: SpilledArray, names: Sequence[str], *, split: str, where: str) -> None:
        self.labels = labels
        self.rows = rows
        self.names = names
        self.split = split
        self.where = where

    def spelling(self) -> Iterator[Finding]:
        """Class names that look alike (case, blanks, composed and invisible characters), of which nothing is seen, or
        that join other class names with a comma or semicolon."""
        spellings: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            spellings.setdefault(as_seen(name), []).append(number)
        blank = spellings.pop("", [])
        yield from self._alike([group for group in spellings.values() if len(group) > 1])
        shown = _listed([ascii(self.names[number])[1:-1] for number in blank])
        problem = f"a label of blanks or invisible characters alone: {shown} is a class now"
        yield from self._rows_with(blank, "label_spelling", problem, "Write a name there, or remove the rows.")
        if self.labels.ndim == 2:  # of one label a row a name may well have a comma
            yield from self._joined()

    def unseen(self, in_train: Mapping[str, int]) -> Iterator[Finding]:
        """Rows of classes that no row of train has. in_train: its rows of each class."""
        counts = self._counts()
        unseen = [number for number, name in enumerate(self.names) if counts[number] and not in_train[name]]
        problem = f"a label that no row of train has: {_listed([self.names[number] for number in unseen])}"
        advice = "Add rows with it to train, or remove it: the model cannot learn it."
        yield from self._rows_with(unseen, "unseen_labels", problem, advice)

    def _alike(self, groups: Sequence[list[int]]) -> Iterator[Finding]:
        counts = self._counts()
        groups = [sorted(group, key=lambda number: -counts[number]) for group in groups]
        shown = "; ".join(" and ".join(self._told_apart(group)) for group in groups[:NAMES_SHOWN])
        more = f" ... ({len(groups)} such names)" if len(groups) > NAMES_SHOWN else ""
        problem = f"the rarer spelling of a label: {shown}{more} are different classes now"
        rarer = [number for group in groups for number in group[1:]]
        yield from self._rows_with(rarer, "label_spelling", problem, "Write each label in one way.")

    def _told_apart(self, group: Sequence[int]) -> list[str]:
        """The names as text, with escapes where they would look the same."""
        shown = [self.names[number] for number in group]
        seen_apart = len({"".join(name.split()).casefold() for name in shown}) == 1  # by case or blanks alone
        return [repr(name) if seen_apart else ascii(name) for name in shown]

    def _joined(self) -> Iterator[Finding]:
        known = set(self.names)
        joined = [number for number, name in enumerate(self.names) if len(_parts(name) & known) > 1]
        if not joined:
            return
        first = self.names[joined[0]]
        verb = "looks like two labels" if len(_parts(first)) == 2 else "looks like several labels"
        advice = "In CSV labels are joined by |, as in a|b; in JSON Lines write a list."
        yield from self._rows_with(joined, "label_spelling", f"a label that joins others: {first!r} {verb}", advice)

    def _counts(self) -> np.ndarray:
        """Rows of each class (C,)."""
        if self.labels.ndim == 2:
            return self.labels.sum(axis=0, dtype=np.int64)
        return np.bincount(self.labels, minlength=len(self.names))

    def _rows_with(self, numbers: Sequence[int], check: str, problem: str, advice: str) -> Iterator[Finding]:
        """A finding about the rows that have one of these classes, if there are any. problem: what each of them has."""
        has = np.isin(self.labels, numbers) if self.labels.ndim == 1 else self.labels[:, list(numbers)].any(axis=1)
        places = np.flatnonzero(has)
        if len(places):
            rows = [row + 1 for row in self.rows.at(places[:ROWS_SHOWN])]
            problem = f"{rows_of(len(places), len(self.labels), 'has', 'have')} {problem}"
            yield Finding(check, self.split, self.where, len(places), rows, problem, None, advice)


def _parts(name: str) -> set[str]:
    return {part.strip() for part in re.split("[,;]", name)}


def balance_findings(
    counts: Mapping[str, Mapping[str, int]], where: Mapping[str, str], *, rows_of_train: int | None = None
) -> Iterator[Finding]:
    """Classes without rows, and a train split in which some have far fewer rows than others.

    counts: rows by class name, for each split that has labels. where: file or source of each split. rows_of_train:
    given when a row may have several labels or none, so that the counts do not add up to it. A class that train lacks
    and another split has is for `LabelChecks.unseen`.
    """
    train = counts.get("train", {})
    for split, by_name in counts.items():
        elsewhere = {name for other in counts.values() for name in other if other[name]}
        lacking = [name for name, count in by_name.items() if not count]
        if split == "train":
            lacking = [name for name in lacking if name not in elsewhere]
        elif train:
            lacking = [name for name in lacking if train.get(name)]
        if lacking:
            yield _no_rows(lacking, split, where[split])
    if train and (finding := _uneven(train, where["train"], rows_of_train)):
        yield finding


def _no_rows(names: Sequence[str], split: str, where: str) -> Finding:
    advice = (
        "Take it out of data.labels, or add rows." if split == "train" else "Its scores here say nothing. Add rows."
    )
    return Finding("imbalance", split, where, 0, [], f"no row has the label {_listed(names)}", None, advice)


def _uneven(counts: Mapping[str, int], where: str, rows: int | None) -> Finding | None:
    present = {name: count for name, count in counts.items() if count}
    if not present:
        return None
    most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    if present[most] < IMBALANCE * present[least]:
        return None
    total = sum(present.values()) if rows is None else rows
    right = f": always answering {most!r} is right in {present[most] / total:.1%}" if rows is None else ""
    count = rows_of(present[least], total, "has", "have")
    problem = f"{count} the label {least!r} and {present[most]:,} have {most!r}{right}"
    advice = (
        f"Judge by f1_macro{' or matthews' if rows is None else ''} rather than by accuracy; training.class_weights: "
        "balanced gives rare classes more weight."
    )
    return Finding("imbalance", "train", where, present[least], [], problem, None, advice)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:NAMES_SHOWN]))
    return shown + (f" ... ({len(names)} labels)" if len(names) > NAMES_SHOWN else "")
