"""A share of the rows of train: stratified, drawn by the seed, and with the smaller share inside the larger one.

All rows get one order in which each beginning has the classes as all rows have them; a share is a beginning of it.

Dimensions: N rows, C classes, T tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finetune_cli.data.label_sets import set_numbers
from finetune_cli.data.prepared import PreparedSplit
from finetune_cli.errors import DataError

RARE_SETS = 10  # rows; of several labels a row, sets with fewer rows count as one together

Numbers = NDArray[np.int64]


def share_of(train: PreparedSplit, share: float, *, seed: int, groups: Numbers | None = None) -> PreparedSplit:
    """The rows of `train` that are in the share, in their order.

    groups: the group (N,) of each row; groups stay whole, so that there may be a few rows more. Every class of train
    has a row in it. Raises DataError when the share has too few rows for that.
    """
    labels = train.known_labels()
    order, least = nested_order(labels, seed=seed, groups=groups)
    count = round(share * len(order))
    if count < least:
        needed = "it needs one" if least == 1 else f"each of the {least} classes needs one"
        raise DataError(
            f"data.share {share:g} is {count} of the {len(order):,} rows of train, and {needed}. "
            f"Take {_rounded_up(least / len(order)):g} or more."
        )
    if groups is not None:
        count = _whole_groups(groups[order], count)
    return train.take(np.sort(order[:count])) if count < len(order) else train


def nested_order(labels: NDArray[np.generic], *, seed: int, groups: Numbers | None = None) -> tuple[Numbers, int]:
    """Row numbers (N,) in the order in which shares take them, and how many of them it takes to have every class.

    labels: class numbers (N,), sets as 0 and 1 (N, C), or numbers, which are drawn whatever they are.
    """
    generator = np.random.default_rng([seed, 4])
    if groups is None:
        order = _stratified(_strata(labels), generator)
    else:
        places = generator.permutation(int(groups.max(initial=-1)) + 1)
        order = np.argsort(places[groups], kind="stable")
    first = order[_first_of_each_class(labels[order])]
    if groups is None:
        return np.concatenate([first, order[~np.isin(order, first)]]), max(1, len(first))
    early = np.isin(groups[order], groups[first])
    return np.concatenate([order[early], order[~early]]), max(1, len(first))


def _strata(labels: NDArray[np.generic]) -> Numbers:
    """The stratum of each row, int64 (N,)."""
    if labels.ndim == 2:
        _, numbers, counts = set_numbers(labels)
        return np.where(counts[numbers] < RARE_SETS, len(counts), numbers)
    return labels.astype(np.int64) if np.issubdtype(labels.dtype, np.integer) else np.zeros(len(labels), np.int64)


def _stratified(strata: Numbers, generator: np.random.Generator) -> Numbers:
    """Row numbers such that any beginning has of each stratum its share, to within about a row."""
    shuffled = generator.permutation(len(strata))
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    sizes = np.unique(strata[by_stratum], return_counts=True)[1]
    rank = np.arange(len(strata)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    offset = np.repeat(generator.random(len(sizes)), sizes)  # else small strata would all come at the same places
    return by_stratum[np.argsort((rank + offset) / np.repeat(sizes, sizes), kind="stable")]


def _first_of_each_class(labels: NDArray[np.generic]) -> Numbers:
    """The places, rising, at which a class is met first; none for numbers."""
    if labels.ndim == 2:
        places = labels.argmax(axis=0)[labels.any(axis=0)]
    elif np.issubdtype(labels.dtype, np.integer):
        places = np.unique(labels, return_index=True)[1]
    else:
        places = np.empty(0, np.int64)
    return np.unique(places)


def _whole_groups(groups: Numbers, count: int) -> int:
    """The least number of rows from `count` on that ends where a group ends."""
    ends = np.flatnonzero(np.diff(groups, append=-1)) + 1
    return int(ends[np.searchsorted(ends, count)])


def _rounded_up(share: float) -> float:
    """To two digits."""
    step = 10.0 ** (np.floor(np.log10(share)) - 1)
    return float(min(1.0, np.ceil(share / step - 1e-9) * step))
