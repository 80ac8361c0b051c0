"""Parts of train as splits of their own: stratified, seeded, and the same each time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from finetune_cli.data.label_sets import Column, label_cell, label_reader
from finetune_cli.data.readers import BadRow, Row, good_rows
from finetune_cli.data.source_files import Source
from finetune_cli.tasks import KIND_SPECS, Kind


def carve(train: Source, fractions: Mapping[str, float], *, label: Column, kind: Kind, seed: int) -> dict[str, Source]:
    """Split `train` into a smaller train and the named parts; each class gives the same share (at least one row).

    Of several labels a row, each set of labels does, where sets with too few rows for that count as one together. In
    regression rows are drawn whatever their label. The choice depends on the labels, the fractions and the seed alone;
    rows keep their order and their numbers.
    """
    stratify = KIND_SPECS[kind].has_classes

    @cache
    def part_of_row() -> np.ndarray:
        return _draw_parts(train, list(fractions.values()), label=label, kind=kind, seed=seed)

    def part(number: int, split: str) -> Source:
        def open_part(columns: Sequence[str] | None) -> Iterator[Row]:
            for row in train.open(columns):
                if isinstance(row, BadRow) or part_of_row()[row[0]] == number:
                    yield row

        choice = f"{sorted(fractions.items())}:{label if stratify else ''}:{seed}:{split}"
        return Source(
            f"{train.where} (part {split})",
            f"{train.fingerprint}:part:{choice}",
            open_part,
            train.label_names,
            left_out=train.left_out if split == "train" else None,
        )

    return {split: part(number, split) for number, split in enumerate(["train", *fractions])}


def _draw_parts(train: Source, shares: Sequence[float], *, label: Column, kind: Kind, seed: int) -> np.ndarray:
    """The part of each row number: 0 stays in train, 1, 2 ... go to the shares in turn."""
    labels = label_reader(kind, train.where, label)
    rows = good_rows(train.open([label] if isinstance(label, str) else label))
    stratify = KIND_SPECS[kind].has_classes
    pairs = ((row, labels.add(row, label_cell(values, label)) if stratify else 0) for row, values in rows)
    table = np.fromiter(pairs, dtype=[("row", np.int64), ("code", np.int32)])
    parts = np.zeros(int(table["row"].max()) + 1, np.int8)
    if KIND_SPECS[kind].several_labels:
        rare = np.bincount(table["code"]) < 1 / min(shares)  # of which a share is no whole row
        table["code"][rare[table["code"]]] = len(rare)
    generator = np.random.default_rng(seed)
    for code in range(int(table["code"].max()) + 1):
        members = generator.permutation(table["row"][table["code"] == code])
        start = 0
        for number, share in enumerate(shares, start=1):
            count = min(max(round(share * len(members)), 1), len(members) - start - 1)  # each class stays in train
            parts[members[start : start + count]] = number
            start += count
    return parts
