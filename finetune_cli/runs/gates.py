"""Quality gates: scores against bounds, and against another run's scores on the same rows; as a file for CI."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.gate_syntax import MAX_DROP, Gate, read_gate, remedy
from finetune_cli.errors import ConfigError, GateFailedError, counted
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.records.evaluation import Corrected, EvalReport, MetricValue
from finetune_cli.records.verdicts import GateOutcome
from finetune_cli.runs.scored_runs import ScoredRun, pair_rows
from finetune_cli.system.files import write_text
from finetune_cli.tasks import METRICS


@dataclass(frozen=True)
class MaxDrop:
    """`f1=0.01`: how much worse than the baseline's a score may be, in the metric's own unit."""

    text: str
    metric: str
    bound: float


def parse_gates(texts: Sequence[str]) -> list[Gate]:
    """Read each `--gate`. Raises ConfigError with a line for each that is none."""
    gates: list[Gate] = []
    wrong: list[str] = []
    for text in texts:
        try:
            gates.append(read_gate(text))
        except ValueError as err:
            wrong.append(f"--gate {text!r}: {err}")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return gates


def parse_max_drops(texts: Sequence[str], baseline: str | None) -> list[MaxDrop]:
    """Read each `--max-drop`. Raises ConfigError that shows the form, or when one comes without `--baseline`."""
    if bool(texts) != bool(baseline):
        given, missing = ("--max-drop", "--baseline RUN") if texts else ("--baseline", "--max-drop METRIC=NUMBER")
        raise ConfigError(f"{given} needs {missing} beside it, such as --baseline runs/main --max-drop f1=0.01.")
    drops = []
    for text in texts:
        match = MAX_DROP.fullmatch(text)
        if match is None or match["metric"] is None:
            raise ConfigError(f"--max-drop {text!r}: expected METRIC=NUMBER, a number from 0, such as f1=0.01.")
        if match["metric"] not in METRICS or match["metric"] == "loss":
            raise ConfigError(
                f"--max-drop {text!r}: {match['metric']!r} is no metric of the package that can be compared row by row."
            )
        drops.append(MaxDrop(text.strip(), match["metric"], float(match["bound"])))
    return drops


def require_computed(tests: Sequence[Gate | MaxDrop], metrics: Collection[str], *, intervals: bool = True) -> None:
    """Raise ConfigError for a gate on a metric, or on an interval, that is not among what is computed."""
    if wrong := [problem for test in tests if (problem := _not_computed(test, metrics, intervals=intervals))]:
        raise ConfigError("\n".join(wrong))


def _not_computed(test: Gate | MaxDrop, metrics: Collection[str], *, intervals: bool) -> str | None:
    """Why there is no score for this test; None when there is."""
    if isinstance(test, Gate) and test.needs_interval and not intervals:
        return f"--gate {test.text!r}: there is no interval, because evaluation.bootstrap.samples is 0."
    computed = test.is_computed(metrics) if isinstance(test, Gate) else test.metric in metrics
    if computed:
        return None
    option, loss = ("--gate", ", loss") if isinstance(test, Gate) else ("--max-drop", "")
    problem = f"{option} {test.text!r}: {test.metric!r} was not computed, only: {', '.join(metrics)}{loss}"
    return problem + remedy(test.metric, test.text, list(metrics))


def check_gates(
    gates: Sequence[Gate],
    metrics: Mapping[str, MetricValue],
    loss: float,
    corrected: Mapping[str, Corrected] | None = None,
) -> list[GateOutcome]:
    """Each gate with what was found; what is not defined on these rows does not pass.

    corrected: the scores that a gate on `.corrected` takes. Raises ConfigError for a gate on a metric that was not
    computed.
    """
    require_computed(gates, metrics)
    outcomes = []
    for gate in gates:
        score = _value(gate, metrics, loss, corrected or {})
        note = metrics[gate.metric].note if gate.end and not gate.of_corrected else None
        outcomes.append(GateOutcome(gate.text, gate.holds(score), score, note=note or ""))
    return outcomes


def check_report(gates: Sequence[Gate], report: EvalReport) -> list[GateOutcome]:
    """The gates on the scores of a split; where its decision rule was fitted, on the cross-validated ones it has."""
    fair = {} if report.decision is None else report.decision.cross_validated or {}
    outcomes = check_gates(gates, {**report.metrics, **fair}, report.loss, report.corrected)
    return [
        replace(outcome, note=outcome.note or _note(gate, report, fair))
        for gate, outcome in zip(gates, outcomes, strict=True)
    ]


def check_config_gates(config: RunConfig, report: EvalReport) -> list[GateOutcome]:
    """The config's gates on the scores of the split that they are about, "validation"."""
    return check_report(parse_gates(config.evaluation.gates), report)


def _note(gate: Gate, report: EvalReport, fair: Collection[str]) -> str:
    if gate.of_corrected:
        return "" if gate.metric in report.corrected else _why_uncorrected(report)
    return "cross-validated" if gate.metric in fair else fit_note(report)


def _why_uncorrected(report: EvalReport) -> str:
    if report.decision is not None:
        return "a decision rule is in use, and the score with it is not corrected; --fit none removes the rule"
    if report.choice is not None and report.choice.candidates is None:
        return "this run kept no predictions of the other evaluations; train it anew"
    return "no corrected score for these rows"


def fit_note(report: EvalReport) -> str:
    """What to know of scores on the rows that the decision rule was fitted on; empty for others."""
    if report.decision is None or not report.decision.rule.was_fitted_on(report.split, report.n):
        return ""
    return "may be optimistic: the decision rule was fitted on these rows"


def check_drops(drops: Sequence[MaxDrop], new: ScoredRun, baseline: ScoredRun) -> list[GateOutcome]:
    """Each metric of both runs on the same rows, paired by id; DataError when they were not scored on the same."""
    names = list(dict.fromkeys(drop.metric for drop in drops))
    of_new, of_baseline = (compute_metrics(names, run.rows) for run in (new, pair_rows(new, baseline)))
    outcomes = []
    for drop in drops:
        score, before = of_new[drop.metric], of_baseline[drop.metric]
        dropped = before - score if METRICS[drop.metric].greater_is_better else score - before
        passed = dropped <= drop.bound  # not for NaN
        outcomes.append(GateOutcome(f"max-drop {drop.text}", passed, score, baseline=before))
    return outcomes


def with_gates(report: EvalReport, outcomes: Sequence[GateOutcome]) -> EvalReport:
    """The report with its gates. Raises GateFailedError, which holds that report, naming every gate that fails."""
    report = replace(report, gates=list(outcomes))
    require_passed(outcomes, f"{report.split} ({counted(report.n, 'row')})", report)
    return report


def require_passed(outcomes: Sequence[GateOutcome], where: str, report: object) -> None:
    failed = [f"  {outcome.gate}: {outcome.finding}" for outcome in outcomes if not outcome.passed]
    if failed:
        raise GateFailedError(f"Gate failed on {where}:\n" + "\n".join(failed), report)


def _value(gate: Gate, metrics: Mapping[str, MetricValue], loss: float, corrected: Mapping[str, Corrected]) -> float:
    if gate.metric not in metrics:
        return loss
    metric = corrected.get(gate.metric, Corrected(math.nan)) if gate.of_corrected else metrics[gate.metric]
    end = (gate.end or "").removeprefix("corrected").removeprefix(".")
    value = getattr(metric, end or "value")
    return math.nan if value is None else float(value)


def write_junit(path: Path, report: EvalReport, name: str) -> None:
    """The gates as JUnit XML, the form in which CI systems show tests: one test case for each.

    name: what was evaluated, as the user gave it. Raises ConfigError without any gate.
    """
    if not report.gates:
        raise ConfigError("--junit: there is no gate to report. Add one, such as --gate 'f1>=0.88'.")
    failures = sum(not outcome.passed for outcome in report.gates)
    suite = ElementTree.Element(
        "testsuite", name=f"{name} {report.split}", tests=str(len(report.gates)), failures=str(failures)
    )
    for outcome in report.gates:
        case = ElementTree.SubElement(suite, "testcase", classname=f"{name}.{report.split}", name=outcome.gate)
        if not outcome.passed:
            ElementTree.SubElement(case, "failure", message=outcome.finding, type="gate")
    ElementTree.indent(suite)
    write_text(path, ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n")
