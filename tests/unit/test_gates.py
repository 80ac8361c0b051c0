"""Quality gates: how they are read, what they compare, and what they refuse."""

import math

import pytest

from finetune_cli.commands.gates import check_gates, parse_gate
from finetune_cli.errors import ConfigError, GateFailedError
from finetune_cli.records import EvalReport, MetricValue

REPORT = EvalReport(
    split="validation",
    n=408,
    loss=0.4,
    metrics={"f1": MetricValue(0.9, 0.87, 0.92), "mse": MetricValue(0.25), "pearson": MetricValue(math.nan)},
    baseline={},
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("f1>=0.9", True),
        ("f1>0.9", False),
        ("f1 >= 0.91", False),
        ("f1.low>=0.87", True),
        ("f1.low>=0.88", False),
        ("f1.high<0.93", True),
        ("mse<=2.5e-1", True),
        ("mse<0.25", False),
        ("loss<0.5", True),
        ("loss<0.1", False),
        ("pearson>=0", False),  # not defined on these rows: that is no pass
        ("pearson<1", False),
    ],
)
def test_a_gate_compares_the_value_or_an_end_of_its_interval(text: str, holds: bool) -> None:
    if holds:
        check_gates([parse_gate(text)], REPORT)
    else:
        with pytest.raises(GateFailedError):
            check_gates([parse_gate(text)], REPORT)


def test_every_gate_that_fails_is_named() -> None:
    gates = [parse_gate(text) for text in ("f1>=0.95", "f1>=0.5", "loss<0.1")]
    with pytest.raises(GateFailedError) as caught:
        check_gates(gates, REPORT)
    assert str(caught.value).splitlines() == [
        "Gate failed on validation (408 rows):",
        "  f1>=0.95: found 0.9000",
        "  loss<0.1: found 0.4000",
    ]
    assert caught.value.report is REPORT


@pytest.mark.parametrize("text", ["f1", "f1=0.9", ">=0.9", "f1>=high", "f1>=0.9.1", "f1>=nan", "f1>=", ""])
def test_what_is_no_gate_is_a_usage_error(text: str) -> None:
    with pytest.raises(ConfigError, match="--gate"):
        parse_gate(text)


def test_a_gate_needs_what_was_computed() -> None:
    with pytest.raises(ConfigError, match="'accuracy' was not computed, only: f1, mse, pearson, loss"):
        check_gates([parse_gate("accuracy>0.5")], REPORT)
    with pytest.raises(ConfigError, match="mse has no interval here"):
        check_gates([parse_gate("mse.low>0.5")], REPORT)
