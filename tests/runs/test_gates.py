"""Quality gates: how they are read, what they compare, and what they refuse."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, DataError, GateFailedError
from finetune_cli.records.decision_rule import DecisionRule
from finetune_cli.records.evaluation import DecisionEffect, EvalReport, MetricValue
from finetune_cli.records.verdicts import GateOutcome
from finetune_cli.runs.gates import (
    check_drops,
    check_gates,
    check_report,
    parse_gates,
    parse_max_drops,
    require_computed,
    with_gates,
    write_junit,
)
from finetune_cli.runs.scored_runs import ScoredRun

REPORT = EvalReport(
    split="validation",
    n=408,
    loss=0.4,
    metrics={"f1": MetricValue(0.9, 0.87, 0.92), "mse": MetricValue(0.25), "pearson": MetricValue(math.nan)},
    baseline={},
)


def checked(*texts: str) -> EvalReport:
    return with_gates(REPORT, check_gates(parse_gates(texts), REPORT.metrics, REPORT.loss))


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
        ("pearson.low<1", False),
    ],
)
def test_a_gate_compares_the_value_or_an_end_of_its_interval(text: str, holds: bool) -> None:
    if holds:
        (outcome,) = checked(text).gates
        assert outcome.passed
    else:
        with pytest.raises(GateFailedError):
            checked(text)


@pytest.mark.parametrize(
    ("gate", "metrics", "advice"),
    [
        ("f1>=0.8", ("accuracy", "f1_macro"), "[accuracy, f1_macro, f1]'; with more, write 'f1_macro>=0.8'"),
        ("f1.low>=0.8", ("accuracy",), "[accuracy, f1]'; with more, write 'f1_macro.low>=0.8'"),
        ("matthews>=0.8", ("accuracy",), ". Add it: -s 'evaluation.metrics=[accuracy, matthews]'"),
    ],
)
def test_a_gate_on_a_score_that_is_not_computed_says_what_can_be(
    gate: str, metrics: tuple[str, ...], advice: str
) -> None:
    with pytest.raises(ConfigError) as error:
        require_computed(parse_gates([gate]), metrics)
    assert advice in str(error.value)


def test_every_gate_that_fails_is_named() -> None:
    with pytest.raises(GateFailedError) as caught:
        checked("f1>=0.95", "f1>=0.5", "loss<0.1", "pearson>0")
    assert str(caught.value).splitlines() == [
        "Gate failed on validation (408 rows):",
        "  f1>=0.95: found 0.9000",
        "  loss<0.1: found 0.4000",
        "  pearson>0: not defined on these rows",
    ]
    assert [outcome.passed for outcome in caught.value.report.gates] == [False, True, False, False]
    assert caught.value.report.metrics == REPORT.metrics


@pytest.mark.parametrize("text", ["f1", "f1=0.9", ">=0.9", "f1>=high", "f1>=0.9.1", "f1>=nan", "f1>=", ""])
def test_what_is_no_gate_is_a_usage_error(text: str) -> None:
    with pytest.raises(ConfigError, match="--gate"):
        parse_gates([text])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("accuracy>=80", "accuracy lies in 0 to 1. Did you mean 0.8?"),
        ("f1.low>=-0.1", "f1 lies in 0 to 1."),
        ("pearson<=-2", "pearson lies in -1 to 1."),
        ("brier<=2.5", "brier lies in 0 to 2. Did you mean 0.025?"),
        ("accuracy.hi>=0.1", "an interval's ends are .low and .high. Did you mean accuracy.high?"),
        ("accuracy.lower>=0.1", "an interval's ends are .low and .high. Did you mean accuracy.low?"),
    ],
)
def test_a_gate_that_no_score_can_meet_is_a_usage_error(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_gates(["loss<=80", "matthews>=-0.5", text, "f1"])
    first, second = str(caught.value).splitlines()  # every bad one at once, and no other
    assert first == f"--gate {text!r}: {problem}"
    assert second.startswith("--gate 'f1': expected METRIC>=NUMBER")


def test_where_the_decision_rule_was_fitted_a_gate_takes_the_cross_validated_score() -> None:
    rule = DecisionRule(temperature=2.0, n=408)
    effect = DecisionEffect(rule, {}, {}, cross_validated={"f1": MetricValue(0.672, 0.6, 0.7)})
    gates = parse_gates(["f1>=0.8", "f1.low>=0.6", "mse<=1"])
    f1, low, mse = check_report(gates, replace(REPORT, decision=effect))
    assert (f1.passed, f1.finding) == (False, "found 0.6720, cross-validated")
    assert (low.passed, low.found) == (True, 0.6)
    assert mse.finding == "found 0.2500, may be optimistic: the decision rule was fitted on these rows"
    fresh_rows = replace(REPORT, split="test", decision=replace(effect, cross_validated=None))
    assert [outcome.finding for outcome in check_report(gates[:1], fresh_rows)] == ["found 0.9000"]


def test_a_gate_needs_what_was_computed() -> None:
    with pytest.raises(ConfigError, match="'accuracy' was not computed, only: f1, mse, pearson, loss"):
        checked("accuracy>0.5")
    with pytest.raises(ConfigError, match="there is no interval"):
        require_computed(parse_gates(["mse.low>0.5"]), REPORT.metrics, intervals=False)


@pytest.mark.parametrize(
    ("gate", "problem"),
    [
        ("f1>=", "expected METRIC>=NUMBER"),
        (
            "acuracy>=0.5",
            "'acuracy' is not among evaluation.metrics. Allowed: accuracy, f1, loss. Did you mean accuracy?",
        ),
        ("loss.low>0", "loss has no interval"),
        ("accuracy>=80", "accuracy lies in 0 to 1. Did you mean 0.8?"),
        ("f1.low>0.5", "evaluation.bootstrap.samples is 0"),
    ],
)
def test_gates_of_a_config_are_checked_when_it_is_read(
    tmp_path: Path, write_config: Callable[..., Path], gate: str, problem: str
) -> None:
    file = write_config(tmp_path, evaluation={"gates": ["accuracy>0", gate], "bootstrap": {"samples": 0}})
    with pytest.raises(ConfigError, match=r"evaluation\.gates\.1: ") as caught:
        load_config(file)
    assert problem in str(caught.value)


def scored(answers: str, *, labels: str = "01010101") -> ScoredRun:
    predictions = np.array(list(answers), dtype=int)
    probabilities = np.eye(2)[predictions] * 0.6 + 0.2
    ids, numbers = list(range(len(labels))), np.array(list(labels), int)
    return ScoredRun(ids, ("no", "yes"), numbers, predictions, probabilities, "run", None)


def test_a_drop_is_measured_on_the_same_rows_in_the_direction_of_the_metric() -> None:
    new, old = scored("01010110"), scored("01010100")  # accuracy 0.75 and 0.875
    drops = parse_max_drops(["accuracy=0.125", "accuracy = 0.1", "log_loss=0.2", "log_loss=0.1"], "runs/old")
    outcomes = check_drops(drops, new, old)
    assert [outcome.passed for outcome in outcomes] == [True, False, True, False]
    assert outcomes[1] == GateOutcome("max-drop accuracy = 0.1", False, 0.75, 0.875)
    assert outcomes[1].finding == "found 0.7500, baseline 0.8750"
    # one row more with probability 0.2 in place of 0.8
    assert outcomes[2].found - (outcomes[2].baseline or 0) == pytest.approx(math.log(4) / 8)
    assert all(outcome.passed for outcome in check_drops(drops, old, new))
    with pytest.raises(DataError, match="not scored on the same rows"):
        check_drops(drops, new, replace(old, ids=list("abcdefgh")))


@pytest.mark.parametrize(
    ("texts", "baseline", "problem"),
    [
        (["f1=0.01"], None, "--max-drop needs --baseline RUN"),
        ([], "runs/main", "--baseline needs --max-drop METRIC=NUMBER"),
        (["f1"], "runs/main", "expected METRIC=NUMBER"),
        (["f1=-0.1"], "runs/main", "expected METRIC=NUMBER"),
        (["loss=0.1"], "runs/main", "no metric of the package"),
        (["evaluate:x=0.1"], "runs/main", "no metric of the package"),
    ],
)
def test_what_is_no_drop_is_a_usage_error(texts: list[str], baseline: str | None, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_max_drops(texts, baseline)


def test_junit_has_a_test_case_for_each_gate(tmp_path: Path) -> None:
    file = tmp_path / "reports" / "gates.xml"
    with pytest.raises(GateFailedError) as caught:
        checked("f1>=0.95", "loss<0.5")
    write_junit(file, caught.value.report, 'runs/"<mine>&"')
    suite = ElementTree.parse(file).getroot()
    assert (suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuite", "2", "1")
    assert suite.get("name") == 'runs/"<mine>&" validation'
    failed, passed = suite.findall("testcase")
    assert (failed.get("name"), passed.get("name")) == ("f1>=0.95", "loss<0.5")
    failure = failed.find("failure")
    assert failure is not None
    assert failure.get("message") == "found 0.9000"
    assert passed.find("failure") is None
    with pytest.raises(ConfigError, match="no gate to report"):
        write_junit(file, REPORT, "runs/mine")
