"""Quality gates: a score, or an end of its interval, against a bound."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from finetune_cli.errors import ConfigError, GateFailedError
from finetune_cli.records import EvalReport

COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
GATE = re.compile(
    r"\s*(?P<metric>[\w:./-]+?)(?:\.(?P<end>low|high))?\s*(?P<sign>>=|<=|>|<)\s*(?P<bound>[-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s*"
)


@dataclass(frozen=True)
class Gate:
    """`f1>=0.88`, or `f1.low>=0.85` for an end of the interval."""

    text: str
    metric: str
    end: str | None
    sign: str
    bound: float


def parse_gate(text: str) -> Gate:
    """Read a gate. Raises ConfigError that shows the form."""
    match = GATE.fullmatch(text)
    if match is None:
        raise ConfigError(f"--gate {text!r}: expected METRIC>=NUMBER, such as 'f1>=0.88' or 'accuracy.low>=0.80'.")
    try:
        bound = float(match["bound"])
    except ValueError as err:
        raise ConfigError(f"--gate {text!r}: {match['bound']!r} is not a number.") from err
    return Gate(text, match["metric"], match["end"], match["sign"], bound)


def require_computed(gates: Sequence[Gate], metrics: Collection[str]) -> None:
    """Raise ConfigError for a gate on a metric that is not among those computed."""
    for gate in gates:
        if gate.metric not in metrics and not (gate.metric == "loss" and gate.end is None):
            raise ConfigError(
                f"--gate {gate.text!r}: {gate.metric!r} was not computed, only: {', '.join(metrics)}, loss. "
                f"Add it: -s evaluation.metrics=[...]"
            )


def check_gates(gates: Sequence[Gate], report: EvalReport) -> None:
    """Raise GateFailedError naming every gate that does not hold; ConfigError for a score that there is not."""
    require_computed(gates, report.metrics)
    failed = []
    for gate in gates:
        found = _value(gate, report)
        if not COMPARISONS[gate.sign](found, gate.bound):
            failed.append(f"  {gate.text.strip()}: found {found:.4f}")
    if failed:
        raise GateFailedError(f"Gate failed on {report.split} ({report.n} rows):\n" + "\n".join(failed), report)


def _value(gate: Gate, report: EvalReport) -> float:
    if gate.metric not in report.metrics:
        return report.loss
    metric = report.metrics[gate.metric]
    value = metric.value if gate.end is None else getattr(metric, gate.end)
    if value is None:
        raise ConfigError(
            f"--gate {gate.text!r}: {gate.metric} has no interval here (evaluation.bootstrap.samples is 0)."
        )
    return float(value)
