"""Parts of train as splits of their own: stratified, seeded, and the same each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from finetune_cli.data.label_sets import Column
from finetune_cli.data.parts import part_of
from finetune_cli.data.source_files import Source
from finetune_cli.data.strata import Strata, read_strata
from finetune_cli.tasks import KIND_SPECS, Kind


def carve(train: Source, fractions: Mapping[str, float], *, label: Column, kind: Kind, seed: int) -> dict[str, Source]:
    """Split `train` into a smaller train and the named parts; each class gives the same share (at least one row).

    Of several labels a row, each set of labels does, where sets with too few rows for that count as one together. In
    regression rows are drawn whatever their label. The choice depends on the labels, the fractions and the seed alone;
    rows keep their order and their numbers.
    """

    @cache
    def part_of_row() -> np.ndarray:
        shares = list(fractions.values())
        return _draw_parts(read_strata(train, label=label, kind=kind, least=1 / min(shares)), shares, seed=seed)

    def is_in(number: int) -> Callable[[int], bool]:
        return lambda row: bool(part_of_row()[row] == number)

    choice = f"{sorted(fractions.items())}:{label if KIND_SPECS[kind].has_classes else ''}:{seed}"
    return {split: part_of(train, split, choice, is_in(number)) for number, split in enumerate(["train", *fractions])}


def _draw_parts(strata: Strata, shares: Sequence[float], *, seed: int) -> np.ndarray:
    """The part of each row number: 0 stays in train, 1, 2 ... go to the shares in turn."""
    parts = np.zeros(int(strata.rows.max()) + 1, np.int8)
    generator = np.random.default_rng(seed)
    for code in range(int(strata.codes.max()) + 1):
        members = generator.permutation(strata.rows[strata.codes == code])
        start = 0
        for number, share in enumerate(shares, start=1):
            count = min(max(round(share * len(members)), 1), len(members) - start - 1)  # each class stays in train
            parts[members[start : start + count]] = number
            start += count
    return parts
