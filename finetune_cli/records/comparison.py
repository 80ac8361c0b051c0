"""What a comparison of runs found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.plain import as_json


@dataclass(frozen=True)
class ComparedSide:
    """One side of a comparison: a run, or the runs of one setting with several seeds.

    metrics: intervals over rows; of several seeds the means, with Student's t intervals over seeds.
    sd: standard deviation over seeds; empty for one run. seeds: empty for a predictions file.
    collapsed: run -> the one class that it gave to every row, for runs that did.
    """

    name: str
    runs: list[str]
    seeds: list[int]
    metrics: dict[str, MetricValue]
    sd: dict[str, float] = field(default_factory=dict)
    collapsed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfigDifference:
    """A key of the config in which sides differ: its value on each side that has a config."""

    key: str
    values: dict[str, Any]

    def shown(self, side: str, *, absent: str) -> str:
        """The side's value on one line, as its file would have it; `absent` for a side without a config."""
        return _setting(self.values[side]) if side in self.values else absent


@dataclass(frozen=True)
class Plan:
    """What a true difference needs, to be found by 80 % of such tests.

    rows: with the seeds there are; seeds: a side, with the rows there are. None: no number is enough, and for seeds of
    single runs, not of_seeds, that nothing is known of them.
    """

    difference: float
    rows: int | None
    seeds: int | None = None
    of_seeds: bool = False

    def sentence(self, metric: str) -> str:
        rows = "no number of rows is enough" if self.rows is None else f"{self.rows:,} rows"
        if self.of_seeds:
            seeds = "no number of seeds is enough" if self.seeds is None else f"{self.seeds:,} seeds a side"
            rows = f"{rows} with these seeds; {seeds} on these rows"
        return f"To show {self.difference:g} on {metric} in 80 % of such tests: {rows}."


@dataclass(frozen=True)
class Comparison:
    """Side b against side a on one metric; difference = b - a, with its interval and two-sided p value.

    verdict on b: "better" | "worse" | "no difference" | "undefined". method: "mcnemar" | "bootstrap" | "seeds".
    p_adjusted: for the other comparisons of this metric (Holm); of one alone its p_value. The verdict is by this one.
    only_a, only_b: rows that only this side has right, where the method is McNemar's.
    detectable: the least true difference that 80 % of such tests find; None where not even the largest. disagreements:
    the share of the rows that one side alone has right, where that decides it. plan: for `--plan`.
    """

    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    method: str
    verdict: str
    sentence: str
    only_a: int | None = None
    only_b: int | None = None
    detectable: float | None = None
    disagreements: float | None = None
    plan: Plan | None = None

    @property
    def shown(self) -> str:
        """What these rows can show, as a sentence; empty where the metric is not defined."""
        if self.verdict == "undefined":
            return ""
        at = "These" if self.disagreements is None else f"At {100 * self.disagreements:.1f} % disagreements these"
        if self.detectable is None:
            return f"{at} rows cannot say how large a difference would have been found."
        return f"{at} rows show differences from {self.detectable:.3f} on, in 80 % of such tests."


@dataclass(frozen=True)
class CompareReport:
    """Runs compared with the first on n paired rows, or each with each. seeds: each side is several seeds of a setting.

    split: None when only predictions files were compared. family: comparisons of each metric, for which its p values
    are adjusted.
    """

    split: str | None
    n: int
    level: float
    samples: int
    seeds: bool
    sides: list[ComparedSide]
    config_differences: list[ConfigDifference]
    comparisons: list[Comparison]
    family: int = 1

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The sides that are compared, by name, in order."""
        return list(dict.fromkeys((comparison.a, comparison.b) for comparison in self.comparisons))

    def to_json(self) -> dict[str, Any]:
        return as_json(self, drop_null=("note",))


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_setting, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
