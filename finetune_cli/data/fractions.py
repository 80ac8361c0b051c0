"""Parts of train as splits of their own: stratified, seeded, the same each time, and no text on both sides.

A text that is in train and in validation would be scored as known (the data check `overlap` warns of it), so rows with
the same text go together. Where no text repeats, the parts are those that the labels, the shares and the seed decide.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from finetune_cli.data.label_sets import Column
from finetune_cli.data.source_files import Source
from finetune_cli.data.strata import Strata, read_strata
from finetune_cli.data.subsets import part_of
from finetune_cli.errors import counted
from finetune_cli.tasks import KIND_SPECS, Kind

logger = logging.getLogger(__name__)


def carve(
    train: Source,
    fractions: Mapping[str, float],
    *,
    label: Column,
    kind: Kind,
    seed: int,
    text: Sequence[str] = (),
) -> dict[str, Source]:
    """Split `train` into a smaller train and the named parts; each class gives the same share (at least one row).

    Of several labels a row, each set of labels does, where sets with too few rows for that count as one together. In
    regression rows are drawn whatever their label. Rows with the same texts in the columns `text` go to one part, that
    of the first of them. The choice depends on the labels, the texts that repeat, the fractions and the seed alone;
    rows keep their order and their numbers.
    """

    @cache
    def part_of_row() -> np.ndarray:
        shares = list(fractions.values())
        strata = read_strata(train, label=label, kind=kind, least=1 / min(shares), text=text)
        drawn = _draw_parts(strata, shares, seed=seed)
        parts = drawn if strata.groups is None else _together(drawn, strata.codes, strata.groups)
        if moved := int((parts != drawn).sum()):
            logger.info("%s: %s put where the same text is", train.where, counted(moved, "row"))
        return strata.by_row(parts)

    def is_in(number: int) -> Callable[[int], bool]:
        return lambda row: bool(part_of_row()[row] == number)

    choice = f"{sorted(fractions.items())}:{label if KIND_SPECS[kind].has_classes else ''}:{seed}:{':'.join(text)}"
    return {split: part_of(train, split, choice, is_in(number)) for number, split in enumerate(["train", *fractions])}


def _draw_parts(strata: Strata, shares: Sequence[float], *, seed: int) -> np.ndarray:
    """The part of each row, int8 (N,): 0 stays in train, 1, 2 ... go to the shares in turn."""
    parts = np.zeros(len(strata.rows), np.int8)
    generator = np.random.default_rng(seed)
    for code in range(int(strata.codes.max()) + 1):
        members = generator.permutation(np.flatnonzero(strata.codes == code))
        start = 0
        for number, share in enumerate(shares, start=1):
            count = min(max(round(share * len(members)), 1), len(members) - start - 1)  # each class stays in train
            parts[members[start : start + count]] = number
            start += count
    return parts


def _together(drawn: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The parts that were drawn, with each group whole where its first row is; int8 (N,).

    A stratum keeps a group in train, and where it has more, one in each part that it had a row in. Where the texts are
    so few that a part would have no row, the rows stay as they were drawn.
    """
    _, first = np.unique(groups, return_index=True)
    parts = drawn[first][groups]
    if (parts == drawn).all():
        return drawn
    for code in np.unique(codes[parts != drawn]):
        of_code = codes == code
        for number in np.unique(drawn[of_code]):  # train, 0, comes first
            here = np.unique(parts[of_code], return_counts=True)
            if number in here[0]:
                continue
            giver = here[0][here[1].argmax()]
            giving = np.unique(groups[of_code & (parts == giver)])
            if number == 0 or len(giving) > 1:
                parts[groups == giving[0]] = number
    return parts if set(parts) == set(drawn) else drawn
