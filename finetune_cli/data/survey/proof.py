"""A second pass over the chosen columns, by the rules of training: what it would refuse is refused here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.data.checks.repeats import Repeats, TextHashes
from finetune_cli.data.checks.rows import checked_rows
from finetune_cli.data.checks.texts import TextScan
from finetune_cli.data.formats.row import good_rows
from finetune_cli.data.label_sets import label_cell, label_columns, label_reader
from finetune_cli.data.labels import NumberLabels
from finetune_cli.data.source_files import Source
from finetune_cli.data.survey.roles import Roles

BLOCK_ROWS = 256


@dataclass(frozen=True)
class RowCheck:
    """A data check of single rows. rows: what it finds, in words that end "3 rows ...". clean: what the data have
    where it finds none, if later files should have it as well."""

    count: Callable[[TextScan, Repeats], int]
    rows: str
    clean: str = ""


CHECKS = {
    "empty_text": RowCheck(lambda scan, _: scan.empty.count, "without a text", clean="a text in every row"),
    "duplicates": RowCheck(lambda _, repeats: len(repeats.same), "with the text and label of another"),
    "contradictions": RowCheck(
        lambda _, repeats: len(repeats.contrary), "with the text of another and a different label: look at them first"
    ),
    "encoding": RowCheck(
        lambda scan, _: scan.encoding.count, "with garbled letters, or control characters", clean="no garbled letters"
    ),
    "markup": RowCheck(lambda scan, _: scan.markup.count, "with HTML tags or entities"),
}


@dataclass(frozen=True)
class Proof:
    """Rows of the source, how many of them each of CHECKS would find, and the rows of each class, in the classes'
    order (of several labels a row, those that have it; empty in regression)."""

    rows: int
    faulty: dict[str, int]
    classes: dict[str, int]


def prove(source: Source, roles: Roles, names: Sequence[str] | None) -> Proof:
    """Read texts and labels as training will. names: of the classes, where they are known.

    Raises DataError for rows that training would refuse.
    """
    labels = label_reader(roles.kind, source.where, roles.label, source.label_names)
    scan = TextScan()
    codes: list[np.ndarray] = []
    with tempfile.TemporaryDirectory(prefix="finetune-init-") as folder:
        hashes = TextHashes("train", Path(folder))
        for numbers, texts, cells in _blocks(source, roles):
            codes.append(np.array([labels.add(n, c) for n, c in zip(numbers, cells, strict=True)], labels.dtype))
            hashes.add(numbers, texts, scan.add(numbers, texts))
        classes = _classes(labels, names or source.label_names)
        repeats = hashes.repeats(np.concatenate(codes))
        faulty = {name: check.count(scan, repeats) for name, check in CHECKS.items()}
        return Proof(len(hashes.rows), faulty, classes)


def _blocks(source: Source, roles: Roles) -> Iterator[tuple[list[int], list[list[str]], list[Any]]]:
    """Row numbers, the texts of each text column, and the label cells of some rows at a time."""
    required = dict.fromkeys(label_columns(roles.label), "data.label")
    columns = [*roles.text, *label_columns(roles.label)]
    rows = good_rows(checked_rows(source.open(columns), where=source.where, text=roles.text, required=required))
    while block := list(islice(rows, BLOCK_ROWS)):
        texts = [[values[name] for _, values in block] for name in roles.text]
        yield [row for row, _ in block], texts, [label_cell(values, roles.label) for _, values in block]


def _classes(labels: Any, names: Sequence[str] | None) -> dict[str, int]:
    """Rows of each class, by the name that training will use."""
    if isinstance(labels, NumberLabels):
        labels.check(may_be_unlabelled=False)
        return {}
    names = labels.names() if names is None else names
    numbers = labels.numbers(names, may_be_unlabelled=False)
    return dict(labels.counts(numbers, names))
