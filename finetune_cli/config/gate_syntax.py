"""A quality gate as text, such as f1>=0.88: a score, or an end of its interval, compared with a bound.

It imports nothing heavy, because the config has gates.
"""

import operator
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from finetune_cli.tasks import EVALUATE_PREFIX, METRICS

COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
GATE = re.compile(
    r"\s*(?P<metric>[\w:./-]+?)(?:\.(?P<end>low|high|corrected(?:\.(?:low|high))?))?\s*(?P<sign>>=|<=|>|<)\s*(?P<bound>[-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s*"
)
# How much worse a score may be: `f1=0.01`, or `0.01` where a command takes one bound for all.
MAX_DROP = re.compile(r"\s*(?:(?P<metric>[\w:./-]+?)\s*=\s*)?(?P<bound>\d*\.?\d+(?:[eE][-+]?\d+)?)\s*")
ENDS_BY_LETTER = {"l": "low", "h": "high", "u": "high", "c": "corrected"}  # for lo, lower, hi, upper, corr


@dataclass(frozen=True)
class Gate:
    """`f1>=0.88`, `f1.low>=0.85` for an end of the interval, or `f1.corrected>=0.85` for the score without what the
    choice of the model on the same rows added to it; that has ends, too."""

    text: str
    metric: str
    end: str | None
    sign: str
    bound: float

    def holds(self, score: float) -> bool:
        """Whether the score passes the gate. NaN, a score that is not defined, never passes."""
        return bool(COMPARISONS[self.sign](score, self.bound))

    @property
    def of_corrected(self) -> bool:
        return (self.end or "").startswith("corrected")

    @property
    def needs_interval(self) -> bool:
        return self.end is not None and self.end != "corrected"

    def is_computed(self, metrics: Collection[str]) -> bool:
        """Whether its score is among these metrics, or is the loss, which has no interval."""
        return self.metric in metrics or (self.metric == "loss" and self.end is None)


def remedy(name: str, text: str, metrics: Sequence[str]) -> str:
    """What to do about the test `text` on a metric that is not among these. f1, for one, is for two classes."""
    if name not in METRICS:
        return ""
    add = f"-s 'evaluation.metrics=[{', '.join([*metrics, name])}]'"
    if not METRICS[name].binary_only:
        return f". Add it: {add}"
    averaged = [metric for metric in (*metrics, *METRICS) if metric.startswith(f"{name}_")]
    return f". With two classes add it: {add}; with more, write {text.replace(name, averaged[0], 1)!r}"


def read_gate(text: str) -> Gate:
    """Read a gate. Raises ValueError when its form is wrong, or when no score can pass it or none can fail it."""
    match = GATE.fullmatch(text)
    if match is None:
        raise ValueError("expected METRIC>=NUMBER, such as 'f1>=0.88' or 'accuracy.low>=0.80'.")
    try:
        bound = float(match["bound"])
    except ValueError as err:
        raise ValueError(f"{match['bound']!r} is not a number.") from err
    gate = Gate(text.strip(), match["metric"], match["end"], match["sign"], bound)
    _require_known_end(gate.metric)
    if gate.of_corrected and (gate.metric == "loss" or gate.metric.startswith(EVALUATE_PREFIX)):
        raise ValueError(f"{gate.metric} is not corrected for the choice of the model. Use a metric of the package.")
    _require_possible(gate)
    return gate


def _require_known_end(name: str) -> None:
    metric, _, end = name.rpartition(".")
    if metric in METRICS:
        meant = ENDS_BY_LETTER.get(end[:1])
        raise ValueError(f"an interval's ends are .low and .high.{f' Did you mean {metric}.{meant}?' if meant else ''}")


def _require_possible(gate: Gate) -> None:
    lowest, highest = (METRICS[gate.metric].span if gate.metric in METRICS else None) or (gate.bound, gate.bound)
    if not lowest <= gate.bound <= highest:
        meant = f" Did you mean {gate.bound / 100:g}?" if 1 < gate.bound <= 100 else ""
        raise ValueError(f"{gate.metric} lies in {lowest:g} to {highest:g}.{meant}")
