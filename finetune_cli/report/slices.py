"""The score of groups of rows: by length, and by the values of a column.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finetune_cli.evaluation.confusion import IntArray
from finetune_cli.evaluation.intervals.by_family import scored_metrics
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.resampling import Resampling
from finetune_cli.runs.answers import Answers

MAX_GROUPS = 12
LENGTH_GROUPS = 5
FEW_ROWS = 30  # below, a group is not called apart from the rest
DRAWS, MIN_SAMPLES = 2_000_000, 200  # counts drawn for one group, some 0.1 s; more rows or classes, fewer resamples
EMPTY = "(empty)"


@dataclass(frozen=True)
class Group:
    """apart: its interval leaves out the score of all rows, and it has rows enough to say so."""

    name: str
    n: int
    score: MetricValue
    apart: bool

    @property
    def few(self) -> bool:
        return self.n < FEW_ROWS


@dataclass(frozen=True)
class Slicing:
    """One way to group the rows. values: how many different ones the column has; None where it was cut into ranges."""

    name: str
    groups: list[Group]
    values: int | None = None


@dataclass(frozen=True)
class SliceScore:
    """How groups are scored: a metric by name, and how its rows are drawn."""

    metric: str
    resampling: Resampling

    @property
    def name(self) -> str:
        """Of the metric that is computed: the accuracy of several labels a row is its exact match."""
        return "accuracy" if self.metric == "exact_match" else self.metric

    @property
    def title(self) -> str:
        return "exact match" if self.metric == "exact_match" else self.metric


def by_length(answers: Answers, lengths: IntArray, how: SliceScore) -> Slicing:
    """Tokens of a row, in groups of about equal size."""
    return Slicing("length in tokens", _scored(answers, _ranges(lengths.astype(float), LENGTH_GROUPS), how))


def by_column(answers: Answers, name: str, values: Sequence[Any], how: SliceScore) -> Slicing:
    """Each value of a column; many numbers as ranges, of many texts the most frequent and one group for the rest."""
    shown = [EMPTY if value in (None, "") else str(value) for value in values]
    counts = Counter(shown)
    if len(counts) > MAX_GROUPS and (numbers := _numbers(shown)) is not None:
        return Slicing(name, _scored(answers, _ranges(numbers, LENGTH_GROUPS), how))
    kept = [value for value, _ in counts.most_common(MAX_GROUPS - 1 if len(counts) > MAX_GROUPS else MAX_GROUPS)]
    places: dict[str, list[int]] = {value: [] for value in kept}
    rest: list[int] = []
    for row, value in enumerate(shown):
        places.get(value, rest).append(row)
    groups = [(value, np.array(rows)) for value, rows in places.items()]
    if rest:
        groups.append((f"({len(counts) - len(kept)} other values)", np.array(rest)))
    return Slicing(name, _scored(answers, groups, how), len(counts))


def score_all(answers: Answers, how: SliceScore) -> float:
    """The score of all rows, which groups are held against."""
    return compute_metrics([how.name], answers.rows)[how.name]


def _numbers(values: Sequence[str]) -> np.ndarray | None:
    """The values as numbers, empty ones as nan; None when one is no number."""
    try:
        numbers = np.array([math.nan if value == EMPTY else float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).any() and not np.isinf(numbers).any() else None


def _ranges(numbers: np.ndarray, count: int) -> list[tuple[str, IntArray]]:
    """Groups of about equal size, named by the smallest and largest number in each."""
    edges = np.unique(np.quantile(numbers[~np.isnan(numbers)], np.linspace(0, 1, count + 1)[1:-1]))
    places = np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="left"))
    groups = []
    for place in np.unique(places):
        rows = np.flatnonzero(places == place)
        low, high = numbers[rows].min(), numbers[rows].max()
        name = EMPTY if place < 0 else f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
        groups.append((name, rows))
    return sorted(groups, key=lambda group: group[0] == EMPTY)


def _scored(answers: Answers, groups: Sequence[tuple[str, IntArray]], how: SliceScore) -> list[Group]:
    whole = score_all(answers, how)
    scored = []
    for name, rows in groups:
        score = _score(answers, rows, how)
        outside = score.low is not None and score.high is not None and not score.low <= whole <= score.high
        apart = outside and len(rows) >= FEW_ROWS
        scored.append(Group(name, len(rows), score, apart))
    return scored


def _score(answers: Answers, rows: IntArray, how: SliceScore) -> MetricValue:
    drawn = len(rows) if answers.classes is None else min(len(rows), len(answers.classes) ** 2)
    resampling = how.resampling.to_compare  # groups are not to be read without intervals
    resampling = replace(resampling, samples=min(resampling.samples, max(MIN_SAMPLES, DRAWS // drawn)))
    return scored_metrics([how.name], answers.rows.at(rows), resampling)[how.name]
