"""What a comparison of runs found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from finetune_cli.records.evaluation import MetricValue, as_json


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
class Comparison:
    """Side b against side a on one metric; difference = b - a, with its interval and two-sided p value.

    verdict on b: "better" | "worse" | "no difference" | "undefined". method: "mcnemar" | "bootstrap" | "seeds".
    only_a, only_b: rows that only this side has right, where the method is McNemar's.
    """

    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float
    method: str
    verdict: str
    sentence: str
    only_a: int | None = None
    only_b: int | None = None


@dataclass(frozen=True)
class CompareReport:
    """Runs compared with the first on n paired rows. seeds: each side is several seeds of one setting.

    split: None when only predictions files were compared.
    """

    split: str | None
    n: int
    level: float
    samples: int
    seeds: bool
    sides: list[ComparedSide]
    config_differences: list[ConfigDifference]
    comparisons: list[Comparison]

    def to_json(self) -> dict[str, Any]:
        return as_json(self)


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_setting, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
