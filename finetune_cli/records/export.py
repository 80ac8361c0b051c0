"""What an export wrote, and what was proven of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.plain import as_json

KEPT_IN_FLOAT = "the second product of each feed-forward layer"  # in the slower, more exact form of int8


@dataclass(frozen=True)
class Drop:
    """One metric of the exported model beside the model's own, on the same rows.

    difference = exported - model, with its paired interval. allowed: how much worse it may be, in the metric's unit;
    the worse end of the interval has to stay within it.
    """

    metric: str
    model: float
    exported: float
    difference: float
    low: float
    high: float
    allowed: float
    passed: bool


@dataclass(frozen=True)
class Equality:
    """How alike two sets of logits are, on n rows.

    tolerance: what the largest difference may be; None where the drops decide. changed: the share of rows with another
    answer, with its interval; None for numbers.
    """

    n: int
    largest_difference: float
    tolerance: float | None
    num_changed: int | None
    changed: MetricValue | None
    drops: list[Drop]
    level: float

    @property
    def problems(self) -> list[str]:
        """What speaks against it, a line each; empty when it is proven."""
        found = []
        if self.tolerance is not None and not self.largest_difference <= self.tolerance:
            found.append(f"a logit differs by {self.largest_difference:.2g}; at most {self.tolerance:.0e} is allowed")
        found += [
            f"{drop.metric}: {drop.model:.4f} became {drop.exported:.4f}, difference {drop.difference:+.4f} "
            f"[{drop.low:+.4f}, {drop.high:+.4f}], not within {drop.allowed:g}"
            for drop in self.drops
            if not drop.passed
        ]
        return found


@dataclass(frozen=True)
class ExportReport:
    """An exported directory. bytes: of the files with the weights. problems: empty when it was proven.

    equality: None when it could not be compared at all. faster_refused: what spoke against the faster form of int8,
    which was tried first; empty where that was kept.
    """

    output: str
    format: str
    dtype: str
    bytes: int
    bytes_before: int
    split: str
    equality: Equality | None = None
    problems: list[str] = field(default_factory=list)
    faster_refused: list[str] = field(default_factory=list)

    @property
    def proven(self) -> bool:
        return self.equality is not None and not self.problems

    def to_json(self) -> dict[str, Any]:
        return {**as_json(self), "proven": self.proven}
