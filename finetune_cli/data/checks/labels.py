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


def blank_finding(labels: np.ndarray, rows: SpilledArray, names: Sequence[str], where: str) -> Finding | None:
    """Class names of which nothing is seen, in train; otherwise as `spelling_finding`."""
    blank = [number for number, name in enumerate(names) if not as_seen(name)]
    places = _places_with(labels, blank)
    if not len(places):
        return None
    return Finding(
        "label_spelling",
        "train",
        where,
        len(places),
        _first(rows, places),
        f"{rows_of(len(places), len(labels), 'has', 'have')} a label of blanks or invisible characters alone: "
        f"{_listed([ascii(names[number])[1:-1] for number in blank])} is a class now",
        None,
        "Write a name there, or remove the rows.",
    )


def spelling_finding(labels: np.ndarray, rows: SpilledArray, names: Sequence[str], where: str) -> Finding | None:
    """Class names that look alike (case, blanks, composed and invisible characters), in train.

    labels: class numbers (N,), of several labels a row 0 and 1 (N, C). rows: their numbers, from 0."""
    spellings: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        spellings.setdefault(as_seen(name), []).append(number)
    groups = [group for seen, group in spellings.items() if len(group) > 1 and seen]
    if not groups:
        return None
    counts = np.bincount(labels, minlength=len(names)) if labels.ndim == 1 else labels.sum(axis=0, dtype=np.int64)
    groups = [sorted(group, key=lambda number: -counts[number]) for group in groups]
    places = _places_with(labels, [number for group in groups for number in group[1:]])
    shown = "; ".join(" and ".join(_told_apart(names, group)) for group in groups[:NAMES_SHOWN])
    more = f" ... ({len(groups)} such names)" if len(groups) > NAMES_SHOWN else ""
    problem = (
        f"{rows_of(len(places), len(labels), 'has', 'have')} the rarer spelling of a label: {shown}{more} are "
        f"different classes now"
    )
    advice = "Write each label in one way."
    return Finding("label_spelling", "train", where, len(places), _first(rows, places), problem, None, advice)


def _told_apart(names: Sequence[str], group: Sequence[int]) -> list[str]:
    """The names as text, with escapes where they would look the same."""
    shown = [names[number] for number in group]
    seen_apart = len({"".join(name.split()).casefold() for name in shown}) == 1  # by case or blanks alone
    return [repr(name) if seen_apart else ascii(name) for name in shown]


def joined_finding(labels: np.ndarray, rows: SpilledArray, names: Sequence[str], where: str) -> Finding | None:
    """Class names that are other class names with a comma or semicolon between them, in train. labels: 0 and 1 (N, C),
    of one label a row (N,), where a name may well have a comma. rows: their numbers, from 0."""
    if labels.ndim == 1:
        return None
    known = set(names)
    joined = [number for number, name in enumerate(names) if len(_parts(name) & known) > 1]
    places = _places_with(labels, joined)
    if not len(places):
        return None
    verb = "looks like two labels" if len(_parts(names[joined[0]])) == 2 else "looks like several labels"
    count = rows_of(len(places), len(labels), "has", "have")
    problem = f"{count} a label that joins others: {names[joined[0]]!r} {verb}"
    advice = "In CSV labels are joined by |, as in a|b; in JSON Lines write a list."
    return Finding("label_spelling", "train", where, len(places), _first(rows, places), problem, None, advice)


def _parts(name: str) -> set[str]:
    return {part.strip() for part in re.split("[,;]", name)}


def unseen_finding(
    labels: np.ndarray, rows: SpilledArray, names: Sequence[str], in_train: Mapping[str, int], *, split: str, where: str
) -> Finding | None:
    """Rows of classes that no row of train has. labels: class numbers, int (N,), of several labels a row 0 and 1
    (N, C). rows: their numbers, from 0."""
    unseen = [number for number, name in enumerate(names) if not in_train[name]]
    places = _places_with(labels, unseen)
    if not len(places):
        return None
    found = [names[number] for number in unseen if len(_places_with(labels[places], [number]))]
    count = rows_of(len(places), len(labels), "has", "have")
    problem = f"{count} a label that no row of train has: {_listed(found)}"
    advice = "Add rows with it to train, or remove it: the model cannot learn it."
    return Finding("unseen_labels", split, where, len(places), _first(rows, places), problem, None, advice)


def balance_findings(
    counts: Mapping[str, Mapping[str, int]], where: Mapping[str, str], *, rows_of_train: int | None = None
) -> Iterator[Finding]:
    """Classes without rows, and a train split in which some have far fewer rows than others.

    counts: rows by class name, for each split that has labels. where: file or source of each split. rows_of_train:
    given when a row may have several labels or none, so that the counts do not add up to it. A class that train lacks
    and another split has is for `unseen_finding`.
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


def _places_with(labels: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """The places whose row has one of these classes."""
    if not numbers:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.isin(labels, numbers) if labels.ndim == 1 else labels[:, numbers].any(axis=1))


def _first(rows: SpilledArray, places: np.ndarray) -> list[int]:
    return [row + 1 for row in rows.at(places[:ROWS_SHOWN])]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:NAMES_SHOWN]))
    return shown + (f" ... ({len(names)} labels)" if len(names) > NAMES_SHOWN else "")
