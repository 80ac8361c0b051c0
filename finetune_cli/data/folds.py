"""Cross-validation: which fold each row is tested in.

Dimensions: N rows, K folds, C strata, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from finetune_cli.data.label_sets import Column
from finetune_cli.data.source_files import Source
from finetune_cli.data.strata import Strata, read_strata
from finetune_cli.data.subsets import first_rows, part_of
from finetune_cli.errors import DataError, counted
from finetune_cli.tasks import KIND_SPECS, Kind


@dataclass(frozen=True)
class Folds:
    """n parts, drawn anew `repeats` times by `seed`. group: a column whose equal values stay together.

    fold: the one that is tested, from 1 to n x repeats; None: no row is held out, and all are scored; "final": all are
    trained on, and none is scored.
    """

    n: int
    repeats: int
    group: str | None
    seed: int
    fold: int | Literal["final"] | None

    @property
    def repeat(self) -> int:
        """The repeat, from 0, that the fold belongs to."""
        return (self.fold - 1) // self.n if isinstance(self.fold, int) else 0


def fold_sources(train: Source, folds: Folds, *, label: Column, kind: Kind, limit: int | None) -> dict[str, Source]:
    """`train` without the rows of one fold, and these as "validation"; for no fold, all rows as both; for the final
    model, all rows as `train` alone.

    limit: the first so many rows alone are dealt out.
    """
    if limit is not None:
        train = first_rows(train, limit)
    if folds.fold == "final":
        return {"train": train}
    if folds.fold is None:
        return {"train": train, "validation": train}
    tested = (folds.fold - 1) % folds.n

    @cache
    def fold_of_row() -> np.ndarray:
        return folds_of_rows(train, folds, label=label, kind=kind)

    stratum = label if KIND_SPECS[kind].has_classes else ""
    choice = f"{folds.n}:{folds.repeat}:{folds.group}:{folds.seed}:{stratum}:{tested}"
    return {
        "train": part_of(train, "train", choice, lambda row: fold_of_row()[row] != tested),
        "validation": part_of(train, f"fold {folds.fold}", choice, lambda row: fold_of_row()[row] == tested),
    }


def folds_of_rows(train: Source, folds: Folds, *, label: Column, kind: Kind) -> np.ndarray:
    """The fold, from 0, that each row number is tested in, in the repeat of `folds`; -1 for a number without a row."""
    strata = read_strata(train, label=label, kind=kind, least=folds.n, group=folds.group)
    return strata.by_row(draw_folds(strata, folds.n, seed=folds.seed, repeat=folds.repeat, where=train.where))


def draw_folds(strata: Strata, n: int, *, seed: int, repeat: int, where: str) -> np.ndarray:
    """The fold of each row, int64 (N,), from 0 to n - 1.

    Without groups, folds differ by one row at most, and so do the rows that each stratum gives them. Groups stay whole;
    the largest are dealt out first, each to the fold that has least of its strata so far. The answer depends on
    the rows' strata and groups, n, seed and repeat alone. Raises DataError, which names `where`, when there are too few
    rows, rows of a class, or groups.
    """
    generator = np.random.default_rng([seed, repeat])
    _require_enough(strata, n, where)
    if strata.groups is None:
        folds = np.empty(len(strata.rows), np.int64)
        shuffled = generator.permutation(len(strata.rows))
        dealt = shuffled[np.argsort(strata.codes[shuffled], kind="stable")]
        folds[dealt] = np.arange(len(dealt)) % n
    else:
        folds = _deal_groups(strata.codes, strata.groups, n, generator)[strata.groups]
    _require_classes_in_train(strata, folds, n, where)
    return folds


def _deal_groups(codes: np.ndarray, groups: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """The fold of each group, int64 (G,)."""
    counts = np.zeros((int(groups.max()) + 1, int(codes.max()) + 1))  # rows of each stratum in each group (G, C)
    np.add.at(counts, (groups, codes), 1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)  # a row of a rare class weighs more
    order = generator.permutation(len(counts))
    order = order[np.argsort(-shares.max(axis=1)[order], kind="stable")]
    filled, rows = np.zeros((n, counts.shape[1])), np.zeros(n)
    folds = np.empty(len(counts), np.int64)
    for group in order:
        growth = 2 * filled @ shares[group]  # of the sum of squares, but for what is the same in every fold
        best = np.lexsort((rows, growth.round(12)))[0]
        folds[group] = best
        filled[best] += shares[group]
        rows[best] += counts[group].sum()
    return folds


def _require_enough(strata: Strata, n: int, where: str) -> None:
    if len(strata.rows) < n:
        raise DataError(f"{where} has {counted(len(strata.rows), 'row')}, too few for {n} folds. Lower data.folds.")
    if strata.groups is not None:
        there = int(strata.groups.max()) + 1
        if there < n:
            raise DataError(f"{where} has {counted(there, 'group')}, too few for {n} folds. Lower data.folds.n.")
        return
    counts = np.bincount(strata.codes)
    if strata.names is not None and counts.min() < n:
        code = int(counts.argmin())
        raise DataError(
            f"{where}: class {strata.names[code]!r} has {counted(int(counts[code]), 'row')}, too few for {n} folds: "
            f"each fold needs one. Lower data.folds to {max(2, int(counts[code]))} or less, or leave that class out."
        )


def _require_classes_in_train(strata: Strata, folds: np.ndarray, n: int, where: str) -> None:
    """With groups, all rows of a class may be in one fold, so that nothing is left to learn it from."""
    if strata.names is None:
        return
    for code, name in enumerate(strata.names):
        of_class = np.unique(folds[strata.codes == code])
        if len(of_class) == 1:
            raise DataError(
                f"{where}: all rows of class {name!r} are in fold {of_class[0] + 1} of {n}, because of their groups "
                "(data.folds.group), so that no model could learn it. Leave that class out, or group otherwise."
            )
